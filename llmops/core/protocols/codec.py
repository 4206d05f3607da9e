"""What the server uses on a bundle: a codec and what computes; one pair for models that answer at once, one for models
that write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from llmops.core.section import Section  # pydantic: 0.2 s that `--help` does not have

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class Codec(Protocol):
    """Requests to arrays and answers back; the same code for every runtime of the task."""

    sample: Any
    """A request to warm a runtime up with."""

    @property
    def one(self) -> str | None:
        """The field of a request's JSON that holds what is asked ("text"); None: the whole object is what is asked."""

    @property
    def many(self) -> str:
        """The field that holds a list of those ("texts")."""

    @property
    def Request(self) -> type[Section]: ...
    @property
    def Response(self) -> type[Section]: ...

    def request(self, row: Mapping[str, Any]) -> Any:
        """The request that a row of a data set would have been; it asks no other server for anything."""

    def size(self, request: Any) -> int:
        """How large a request is (characters): limits count in it."""

    def cells(self, request: Any) -> int:
        """How long a request is in a batch (tokens), where all are padded to the longest; at least 1."""

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """Arrays for the runtime, padded to the longest request of this batch."""

    def decode(self, arrays: Sequence[Any], requests: Sequence[Any]) -> list[Any]:
        """Responses from the runtime's output arrays, one for each request."""


@dataclass(frozen=True)
class Vector:
    """What stands for a text: `values` float32 [width] of length 1, computed from `tokens` tokens; `cut`: the text has
    more than the model reads."""

    values: np.ndarray[Any, Any]
    tokens: int
    cut: bool


@runtime_checkable
class Embedder(Protocol):
    """A codec whose model gives texts' vectors too, asked for and answered (by a Vector) in the same batches."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    def embedding(self, text: str) -> Any:
        """The request for the vector of a text."""


@runtime_checkable
class Occluding(Protocol):
    """A codec whose answers to a text hang on parts of it, found by leaving out one after the other."""

    def occluded(self, request: Any) -> tuple[list[tuple[int, int]], list[Any]]:
        """The parts of a request's text (start and end in characters), and the request as it is, then without each."""

    def mattered(self, responses: Sequence[Any]) -> list[float]:
        """How much less likely the first response's answer is in each of the others (below 0: more likely)."""


@dataclass(frozen=True)
class Cited:
    """A source, and the part of a reply's words that it is named by, or that it stands behind (characters)."""

    source: str
    start: int
    end: int


@dataclass(frozen=True)
class Reply:
    """An answer as a message of a chat: its words and their sources; `asked` and `answer` are the request that was
    answered and its response, as /v1/predict has them."""

    asked: Any
    answer: Any
    words: str
    sources: Sequence[Cited]


@runtime_checkable
class Conversing(Protocol):
    """A codec whose model also answers in a chat, in the same batches; the responses to such requests are replies."""

    def turn(self, turns: Sequence[str]) -> Any:
        """The request that the user's turns of a chat make, the last of which is the question."""

    def ends(self, text: str) -> list[int]:
        """Where each token of a text ends, in characters."""


class Runtime(Protocol):
    """How a one-shot bundle computes."""

    lanes: int
    """Batches that may be computed at once."""

    def run(self, batch: Arrays) -> list[Any]:
        """The output arrays of one batch, which is the only one; nobody else asks meanwhile."""

    def run_beside(self, batch: Arrays) -> list[Any]:
        """The output arrays of one batch of several; from any thread."""


class TokenText(Protocol):
    """Tokens of one answer turned into text as they come."""

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is not whole."""

    def end(self) -> str:
        """What was held back."""


class WritingCodec(Protocol):
    """Chats and prompts to tokens, tokens to text; for models that step."""

    context: int
    """Tokens that a prompt and its answer may have together."""
    end_tokens: frozenset[int]
    """Tokens that end an answer."""
    vocabulary: int
    chats: bool
    """Whether the bundle has a chat template."""
    call_marks: tuple[str, str]
    """What stands before and after a call of a tool in an answer's text; between them {"name": .., "arguments": {..}},
    as Python writes JSON, on a line of its own."""
    added: Mapping[str, int]
    """Ids of tokens that were added to the vocabulary and whose names are part of the text, such as `<think>`."""

    def chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
        """The tokens of a conversation, up to where the assistant's answer begins; messages may hold OpenAI's
        `tool_calls`, or have the role `tool`. Raises ValueError in words when the template refuses it."""

    def prompt(self, text: str) -> list[int]:
        """The tokens of a plain prompt, with the begin token where the model has one."""

    def writer(self) -> TokenText:
        """A fresh decoder for one answer."""

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""

    def piece(self, token: int) -> str:
        """One token as the API's logprobs name it."""

    def letters(self, text: str) -> list[int]:
        """The tokens of a text in which no special or added token stands."""

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, [vocabulary]; empty for special and added ones. Raises ValueError in words when a
        token has not the same bytes everywhere."""


class Stepper(Protocol):
    """How a bundle that writes computes: a cache with `slots` places, one conversation each. Not thread-safe."""

    slots: int
    context: int
    """Tokens that one slot holds."""

    def prefill(self, slot: int, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        """Forget what the slot held and read `tokens` (1 to context); float32 logits of the next one [vocabulary]."""

    def score(self, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        """Logits after every token, float32 [len(tokens), vocabulary]; no slot is touched."""

    def step(self, tokens: Mapping[int, int]) -> np.ndarray[Any, Any]:
        """One token for each of these slots, in the order of the mapping; logits float32 [len(tokens), vocabulary]."""

    def free(self, slot: int) -> None:
        """Forget what the slot held."""

    def length(self, slot: int) -> int:
        """Tokens that the slot holds."""
