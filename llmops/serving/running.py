"""Running: an answer in a slot. By the model's logits it grows token by token, in the form it is held to."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmops.bundle.sampling import Sampler
from llmops.core.protocols import WritingCodec
from llmops.serving.forms import CannotHold
from llmops.serving.logprobs import Named, named
from llmops.serving.stops import StopText
from llmops.serving.stream import Piece, Stream

Logits = np.ndarray[Any, Any]


class Running:
    """An answer in a slot; used by the worker alone."""

    def __init__(self, stream: Stream, slot: int, codec: WritingCodec) -> None:
        ask = stream.ask
        self.stream, self.ask, self.slot = stream, ask, slot
        self.sampler = Sampler(ask.temperature, ask.top_p, ask.seed, ask.choice, ask.bias)
        self.text = StopText(codec.writer(), ask.stop)
        # A form allows an end token where the answer may end, and nothing after it.
        self.ends = codec.end_tokens if ask.form or not ask.ignore_end else frozenset()
        self.token, self.written = -1, 0
        self._held: list[tuple[int, int, Named]] = []

    def advance(self, logits: Logits) -> Piece:
        """Choose the next token by the logits, float32 [vocabulary]; what the answer grew by."""
        whole = self._choose(logits)
        if self.token in self.ends:
            return self._finished(self.text.end(), "stop")
        start, text = self.text.seen, self.text.push(self.token)
        if self.ask.top is not None:
            self._held.append((start, self.text.seen, named(logits, self.token, self.ask.top)))
        if self.text.stopped:
            return self._finished(text, "stop")
        if whole:
            return self._finished(text + self.text.end(), "stop")
        if self.written >= self.ask.max_tokens:
            text += self.text.end()
            return self._finished(text, "stop" if self.text.stopped else "length")
        return Piece(text, self._shown(), self.written)

    def _choose(self, logits: Logits) -> bool:
        """The next token; whether the answer's form is whole with it."""
        form, self.written = self.ask.form, self.written + 1
        self.token = self.sampler.choose(logits)
        if form is None:
            return False
        # Nearly always the token fits that the model would write anyway. Drawing again among those that fit where it
        # does not gives each of these the chance that it has among them, as drawing among them alone does.
        if not form.fits(self.token):
            allowed = form.allowed()
            while not form.fits(self.token):
                allowed[self.token] = False
                if not allowed.any():
                    raise CannotHold("no token of the model may come next")
                self.token = self.sampler.choose(logits, allowed)
        return form.take(self.token)

    def _shown(self) -> tuple[Named, ...]:
        """Tokens whose text is out; those of text that is held back wait with it."""
        shown = [token for _, end, token in self._held if end <= self.text.released]
        del self._held[: len(shown)]
        return tuple(shown)

    def _finished(self, text: str, finish: str) -> Piece:
        # Tokens that lie wholly within a stop string are no part of the answer.
        rest = [token for start, _, token in self._held if not self.text.stopped or start < self.text.released]
        return Piece(text, tuple(rest), self.written, finish)
