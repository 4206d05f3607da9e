"""Answers on their way: what is asked of the scheduler, the pieces that come back, and how they are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from llmops.serving.forms import Form
from llmops.serving.logprobs import Named


@dataclass(frozen=True)
class Ask:
    """One answer to be written. The prompt and `max_tokens` together fit the model's context."""

    prompt: Sequence[int]
    """Tokens, at least one."""
    max_tokens: int
    """Tokens of the answer at most; 1 or more."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer and are no part of it."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Share of the probability that sampling chooses from."""
    seed: int | None = None
    """Equal seeds give equal answers from the same model."""
    choice: int = 0
    """Which of the answers to one request it is; each draws in its own way from the same seed."""
    bias: Mapping[int, float] = field(default_factory=dict)
    """What is added to the logits of tokens before one is chosen."""
    top: int | None = None
    """How many likeliest tokens are named beside each token; None: no probabilities at all."""
    ignore_end: bool = False
    """Write on past an end token, for measurements that need answers of a known length."""
    form: Form | None = None
    """What the answer is held to."""


@dataclass(frozen=True)
class Piece:
    """What an answer grew by: text that may be shown, and its tokens when their probabilities were asked for."""

    text: str
    tokens: tuple[Named, ...] = ()
    written: int = 0
    """Tokens of the answer so far, its end token among them."""
    finish: str | None = None
    """On the last piece: "stop" (the model ended it, or a stop string did) or "length"."""


Box = asyncio.Queue[tuple[int, Piece | Exception]]


class Stream:
    """One answer on its way. Iterate over its pieces in the event loop; the one with `finish` is the last.

    An exception of the model is raised from the iteration.
    """

    def __init__(self, ask: Ask, box: Box | None = None) -> None:
        """`box` is where its pieces come in; answers to one request share one, and are read by `together`."""
        self.ask = ask
        self.since = time.perf_counter()
        self.first_s: float | None = None
        """Seconds from the request to its first token."""
        self.gone = False
        """Whether its client left; written in the event loop, read by the worker."""
        self.box: Box = box or asyncio.Queue()

    def deliver(self, piece: Piece | Exception) -> None:
        """Hand on a piece; called in the event loop."""
        if not self.gone:
            self.box.put_nowait((self.ask.choice, piece))

    async def __aiter__(self) -> AsyncIterator[Piece]:
        async for _, piece in together([self]):
            yield piece


async def together(streams: Sequence[Stream]) -> AsyncIterator[tuple[int, Piece]]:
    """(choice, piece) of the answers to one request, as they come, until each had its last."""
    box, left = streams[0].box, len(streams)
    while left:
        got = [await box.get()]
        while not box.empty():  # a reader who is behind gets all at once
            got.append(box.get_nowait())
        for choice in dict.fromkeys(choice for choice, _ in got):
            pieces = [piece for whose, piece in got if whose == choice and isinstance(piece, Piece)]
            if pieces:
                left -= pieces[-1].finish is not None
                yield choice, _joined(pieces)
        for _, error in got:
            if isinstance(error, Exception):
                raise error


def _joined(pieces: list[Piece]) -> Piece:
    text = "".join(piece.text for piece in pieces)
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    return Piece(text, tokens, pieces[-1].written, pieces[-1].finish)
