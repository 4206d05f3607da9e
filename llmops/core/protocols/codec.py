"""What the server uses on a bundle: a codec and what computes; one pair for models that answer at once, one for models
that write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

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
        """How large a request is (characters): limits count in it, batches group by it."""

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """Arrays for the runtime, padded to the longest request of this batch."""

    def decode(self, arrays: Sequence[Any], requests: Sequence[Any]) -> list[Any]:
        """Responses from the runtime's output arrays, one for each request."""


class Runtime(Protocol):
    """How a one-shot bundle computes."""

    def run(self, batch: Arrays) -> list[Any]:
        """The output arrays of one batch."""


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

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a conversation, up to where the assistant's answer begins. Raises ValueError in words when the
        template refuses it."""

    def prompt(self, text: str) -> list[int]:
        """The tokens of a plain prompt, with the begin token where the model has one."""

    def writer(self) -> TokenText:
        """A fresh decoder for one answer."""

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""

    def piece(self, token: int) -> str:
        """One token as the API's logprobs name it."""


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
