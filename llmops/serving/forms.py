"""Forms: answers held to a grammar while they are written. llguidance tells before each token which ones may come.

llguidance (Moskal et al., MIT licence) is one library without dependencies; xgrammar, the other well-kept one, brings
torch along.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from llmops.core.protocols import WritingCodec
from llmops.serving.grammar import Wanted, alone, grammar

KEPT = 32
"""Grammars that stay ready for the next request which asks for the same."""
MOST_STATES = 10_000
"""Of the automaton that reads an answer's letters, one or two KB each; patterns may need ever more of them. The
library's other limits, on the size of a grammar and on the work of one step, are as it sets them."""
SHOWN = re.compile(r"^at \d+\(\d+\): failed to compile JSON schema: |\n +1 \| |\Z")
"""What stands around the words of a message: where in the grammar the mistake is, and the grammar."""
Allowed = np.ndarray[Any, np.dtype[np.bool_]]


class CannotHold(ValueError):
    """What is wanted cannot be held; in words. `place`: the number of the tool that it is about. `general`: it is about
    the model, whatever is wanted."""

    def __init__(self, why: str, place: int | None = None, general: bool = False) -> None:
        super().__init__(why)
        self.place, self.general = place, general


class Form:
    """What one answer may still be. Used by one thread at a time."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def fits(self, token: int) -> bool:
        """Whether a token may come next; far quicker than asking for all that may."""
        fits = bool(self._matcher.validate_tokens([token]) == 1)
        self._check()
        return fits

    def allowed(self) -> Allowed:
        """Which tokens may come next, [vocabulary]; an end token among them when the answer may end here. A few that do
        not fit may be among them: where one special token may come, the library lets others pass. Raises CannotHold
        when this takes more steps than its limits allow."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(packed, count=self._vocabulary, bitorder="little").view(np.bool_)

    def take(self, token: int) -> bool:
        """Go on by a token that is allowed; whether the answer is whole, so that nothing may follow."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise CannotHold(_in_words(self._matcher.get_error()))


class Forms:
    """The grammars of one model. Threads may share it."""

    def __init__(self, codec: WritingCodec) -> None:
        self.codec = codec
        self._tokenizer: Any = None
        self._ready: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, wanted: Wanted, count: int) -> list[Form]:
        """`count` fresh forms of what is wanted; takes milliseconds, or seconds for a large schema. Raises CannotHold
        for a schema, or a tokenizer, with which it cannot be."""
        with self._lock:
            text = grammar(wanted, self.codec.call_marks, self.codec.added)
            ready = self._ready.get(text) or self._compiled(text, wanted)
            self._ready[text] = ready
            self._ready.move_to_end(text)
            while len(self._ready) > KEPT:
                self._ready.popitem(last=False)
            return [Form(ready.deep_copy(), self.codec.vocabulary) for _ in range(count)]

    def _compiled(self, text: str, wanted: Wanted) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self.codec)
        limits = LLParserLimits(max_lexer_states=MOST_STATES, verbose_errors=False)
        made = LLMatcher(self._tokenizer, text, log_level=0, limits=limits)
        if made.is_error():
            raise self._explained(made.get_error(), wanted)
        return made

    def _explained(self, error: str, wanted: Wanted) -> CannotHold:
        """The mistake with the schema that it is in."""
        from llguidance import LLMatcher

        for number, tool in enumerate(wanted.tools):
            wrong, said = LLMatcher.validate_grammar_with_warnings(alone(tool.schema, tool.strict), self._tokenizer)
            if wrong:
                return CannotHold(_in_words(said[0]), number)
        return CannotHold(_in_words(error))


class _Vocabulary:
    """The tokens as llguidance asks for them."""

    bos_token_id = None

    def __init__(self, codec: WritingCodec) -> None:
        self._letters = codec.letters
        self.tokens = codec.token_bytes()
        self.special_token_ids = [number for number, told in enumerate(self.tokens) if not told]
        self.eos_token_id = min(codec.end_tokens)
        self._numbers = {told: number for number, told in enumerate(self.tokens) if told}
        self._longest = max(map(len, self._numbers))

    def __call__(self, text: str) -> list[int]:
        """The tokens of words that must come, as the model was trained to write them; where the tokenizer says more
        than the words (a space at the beginning, say), the longest that fit, one after the other."""
        if not isinstance(text, str):
            raise TypeError("a text, not bytes")
        tokens, wanted = self._letters(text), text.encode()
        return tokens if b"".join(self.tokens[token] for token in tokens) == wanted else self._fitting(wanted)

    def _fitting(self, wanted: bytes) -> list[int]:
        tokens, place = [], 0
        while place < len(wanted):
            sizes = range(min(self._longest, len(wanted) - place), 0, -1)
            size = next(size for size in sizes if wanted[place : place + size] in self._numbers)
            tokens.append(self._numbers[wanted[place : place + size]])
            place += size
        return tokens


def _tokenizer(codec: WritingCodec) -> Any:
    from llguidance import LLTokenizer, TokenizerWrapper

    try:
        vocabulary = _Vocabulary(codec)
    except ValueError as error:
        raise CannotHold(f"this model's tokens have no bytes of their own ({error})", general=True) from error
    return LLTokenizer(TokenizerWrapper(vocabulary), n_vocab=codec.vocabulary, eos_token=sorted(codec.end_tokens))


def _in_words(error: str) -> str:
    """The library's message without the grammar that follows it."""
    told = " ".join(next((part for part in SHOWN.split(error) if part), "unknown").split())
    return told if len(told) <= 300 else f"{told[:300]} .."
