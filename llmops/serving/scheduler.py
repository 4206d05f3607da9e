"""Scheduler: many answers written at once. Each step of the model gives every running answer one token.

Continuous batching (Yu et al. 2022, Orca): a request takes a free slot as soon as there is one, an answer that ends
leaves its slot at once, and nobody waits for the others of a batch. Between two steps at most one prompt is read, so
that running answers keep flowing while a crowd arrives.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from llmops.bundle.sampling import Sampler
from llmops.core.protocols import Stepper, WritingCodec
from llmops.serving.batcher import Closing, QueueFull
from llmops.serving.logprobs import Named, named
from llmops.serving.metrics import WritingMetrics
from llmops.serving.stops import StopText

Logits = np.ndarray[Any, Any]
logger = logging.getLogger(__name__)


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
    top: int | None = None
    """How many likeliest tokens are named beside each token; None: no probabilities at all."""
    ignore_end: bool = False
    """Write on past an end token, for measurements that need answers of a known length."""


@dataclass(frozen=True)
class Piece:
    """What an answer grew by: text that may be shown, and its tokens when their probabilities were asked for."""

    text: str
    tokens: tuple[Named, ...] = ()
    written: int = 0
    """Tokens of the answer so far, its end token among them."""
    finish: str | None = None
    """On the last piece: "stop" (the model ended it, or a stop string did) or "length"."""


class Stream:
    """One answer on its way. Iterate over its pieces in the event loop; the one with `finish` is the last.

    An exception of the model is raised from the iteration.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.since = time.perf_counter()
        self.first_s: float | None = None
        """Seconds from the request to its first token."""
        self.gone = False
        """Whether its client left; written in the event loop, read by the worker."""
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()

    def deliver(self, piece: Piece | Exception) -> None:
        """Hand on a piece; called in the event loop."""
        if not self.gone:
            self._pieces.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        finish = None
        while finish is None:
            got = [await self._pieces.get()]
            while not self._pieces.empty():  # a reader who is behind gets all at once
                got.append(self._pieces.get_nowait())
            pieces = [piece for piece in got if isinstance(piece, Piece)]
            if pieces:
                finish = pieces[-1].finish
                yield _joined(pieces)
            for error in got[len(pieces) :]:
                assert isinstance(error, Exception)
                raise error


def _joined(pieces: list[Piece]) -> Piece:
    text = "".join(piece.text for piece in pieces)
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    return Piece(text, tokens, pieces[-1].written, pieces[-1].finish)


@dataclass(eq=False)
class Scoring:
    """A text whose tokens' probabilities are asked for. `told` gets a Named for each token but the first."""

    tokens: Sequence[int]
    top: int
    told: asyncio.Future[list[Named]] = field(repr=False)


class Running:
    """An answer in a slot; used by the worker alone."""

    def __init__(self, stream: Stream, slot: int, codec: WritingCodec) -> None:
        ask = stream.ask
        self.stream, self.ask, self.slot = stream, ask, slot
        self.sampler = Sampler(ask.temperature, ask.top_p, ask.seed)
        self.text = StopText(codec.writer(), ask.stop)
        self.ends: frozenset[int] = frozenset() if ask.ignore_end else codec.end_tokens
        self.token, self.written = -1, 0
        self._held: list[tuple[int, int, Named]] = []

    def advance(self, logits: Logits) -> Piece:
        """Choose the next token by the logits, float32 [vocabulary]; what the answer grew by."""
        self.token, self.written = self.sampler.choose(logits), self.written + 1
        if self.token in self.ends:
            return self._finished(self.text.end(), "stop")
        start, text = self.text.seen, self.text.push(self.token)
        if self.ask.top is not None:
            self._held.append((start, self.text.seen, named(logits, self.token, self.ask.top)))
        if self.text.stopped:
            return self._finished(text, "stop")
        if self.written >= self.ask.max_tokens:
            text += self.text.end()
            return self._finished(text, "stop" if self.text.stopped else "length")
        return Piece(text, self._shown(), self.written)

    def _shown(self) -> tuple[Named, ...]:
        """Tokens whose text is out; those of text that is held back wait with it."""
        shown = [token for _, end, token in self._held if end <= self.text.released]
        del self._held[: len(shown)]
        return tuple(shown)

    def _finished(self, text: str, finish: str) -> Piece:
        # Tokens that lie wholly within a stop string are no part of the answer.
        rest = [token for start, _, token in self._held if not self.text.stopped or start < self.text.released]
        return Piece(text, tuple(rest), self.written, finish)


class Scheduler:
    """The slots of one model, the bounded queue before them, and the one thread that computes.

    `submit`, `score`, `cancel` and `close` belong to the event loop in which it was made.
    """

    def __init__(self, stepper: Stepper, codec: WritingCodec, queue: int, metrics: WritingMetrics) -> None:
        """`queue` bounds the requests that wait for a slot."""
        self.stepper, self.codec, self.queue, self.metrics = stepper, codec, queue, metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Stream | Scoring] = deque()
        self._running: list[Running] = []
        self._free = list(reversed(range(stepper.slots)))
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return min(self.codec.context, self.stepper.context)

    def submit(self, ask: Ask) -> Stream:
        """Queue an answer. Raises QueueFull or Closing."""
        stream = Stream(ask)
        self._queue(stream)
        return stream

    async def score(self, tokens: Sequence[int], top: int) -> list[Named]:
        """How likely each token but the first is after those before it, with the `top` likeliest in its place.

        Takes a place in the queue but no slot. Raises QueueFull or Closing.
        """
        scoring = Scoring(tokens, top, self._loop.create_future())
        self._queue(scoring)
        try:
            return await scoring.told
        finally:
            self._withdraw(scoring)

    def cancel(self, stream: Stream) -> None:
        """Give up an answer: its place in the queue is free now, its slot before the next step."""
        stream.gone = True
        self._withdraw(stream)

    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def active(self) -> int:
        """Slots that hold an answer."""
        return len(self._running)

    def alive(self) -> bool:
        """Whether requests are taken and answered."""
        return not self._closing and self._thread.is_alive()

    async def close(self) -> None:
        """Take no more, finish what waits and what runs, end the thread."""
        with self._news:
            self._closing = True
            self._news.notify()
        await asyncio.to_thread(self._thread.join)

    def _queue(self, job: Stream | Scoring) -> None:
        with self._news:
            if not self.alive():
                raise Closing
            if len(self._waiting) >= self.queue:
                raise QueueFull
            self._waiting.append(job)
            self._news.notify()

    def _withdraw(self, job: Stream | Scoring) -> None:
        with self._news:
            if job in self._waiting:
                self._waiting.remove(job)
            self._news.notify()

    def _work(self) -> None:
        """The thread: let go, admit one, step; until the scheduler closes and all is answered."""
        try:
            while self._something():
                self._let_go()
                self._admit()
                self._step()
        except BaseException as error:  # a bug here, or a stepper that cannot even free a slot
            logger.exception("the scheduler ends")
            self._give_up(error)

    def _something(self) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._running or self._closing)
            return bool(self._waiting or self._running)

    def _let_go(self) -> None:
        """Free the slots of clients that left."""
        for running in [running for running in self._running if running.stream.gone]:
            self._leave(running)
            self.metrics.finished.labels("cancelled").inc()

    def _leave(self, running: Running) -> None:
        self.stepper.free(running.slot)
        self._running.remove(running)
        self._free.append(running.slot)

    def _admit(self) -> None:
        """Read the oldest waiting prompt into a free slot, or score the oldest waiting text, which needs none."""
        with self._news:
            fitting = (job for job in self._waiting if self._free or isinstance(job, Scoring))
            job = next(fitting, None)
            if job is not None:
                self._waiting.remove(job)
        if isinstance(job, Scoring):
            self._score(job)
        elif job is not None and not job.gone:
            self._begin(job)

    def _begin(self, stream: Stream) -> None:
        running = Running(stream, self._free.pop(), self.codec)
        self._running.append(running)
        try:
            piece = running.advance(self.stepper.prefill(running.slot, stream.ask.prompt))
        except BaseException as error:  # a panic in a Rust tokenizer is no Exception
            self._fail([running], error)
            return
        stream.first_s = time.perf_counter() - stream.since
        self.metrics.first_token.observe(stream.first_s)
        self.metrics.tokens.labels("prompt").inc(len(stream.ask.prompt))
        self._hand_on([(running, piece)])

    def _step(self) -> None:
        """One token for each running answer."""
        running = list(self._running)
        if not running:
            return
        self.metrics.batch.observe(len(running))
        try:
            logits = self.stepper.step({one.slot: one.token for one in running})
        except BaseException as error:
            self._fail(running, error)
            return
        grown: list[tuple[Running, Piece]] = []
        for one, row in zip(running, logits, strict=True):
            try:
                grown.append((one, one.advance(row)))
            except BaseException as error:
                self._fail([one], error)
        self._hand_on(grown)

    def _hand_on(self, grown: list[tuple[Running, Piece]]) -> None:
        """Free the slots of answers that ended, and tell the clients."""
        self.metrics.tokens.labels("answer").inc(len(grown))
        for running, piece in grown:
            if piece.finish:
                self._leave(running)
                self.metrics.finished.labels(piece.finish).inc()
        told = [(one.stream, piece) for one, piece in grown if piece.text or piece.tokens or piece.finish]
        if told:
            self._tell(partial(_deliver, told))

    def _fail(self, failed: list[Running], error: BaseException) -> None:
        """A mistake of the model ends the answers it struck, never the server."""
        for running in failed:
            self._leave(running)
            self.metrics.finished.labels("error").inc()
        for running in failed:
            self._tell(partial(running.stream.deliver, _exception(error)))

    def _score(self, job: Scoring) -> None:
        try:
            # what follows the last token is not asked for, so a text may be one token longer than the context
            read = job.tokens[:-1]
            logits: Any = self.stepper.score(read) if read else []
            said = [named(row, token, job.top) for row, token in zip(logits, job.tokens[1:], strict=True)]
        except BaseException as error:
            self._tell(partial(_broken, job, _exception(error)))
            return
        self.metrics.tokens.labels("scored").inc(len(job.tokens))
        self._tell(lambda: None if job.told.done() else job.told.set_result(said))

    def _give_up(self, error: BaseException) -> None:
        """Tell all who wait; `alive` is false from here on."""
        with self._news:
            self._closing, jobs = True, [*self._waiting, *(running.stream for running in self._running)]
            self._waiting.clear()
            self._running.clear()
        why = RuntimeError(repr(error))
        for job in jobs:
            if isinstance(job, Stream):
                self._tell(partial(job.deliver, why))
            else:
                self._tell(partial(_broken, job, why))

    def _tell(self, deliver: Callable[[], Any]) -> None:
        """Run `deliver` in the event loop; when that is closed, nobody waits any more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(deliver)


def _deliver(told: list[tuple[Stream, Piece]]) -> None:
    for stream, piece in told:
        stream.deliver(piece)


def _broken(job: Scoring, why: Exception) -> None:
    if not job.told.done():
        job.told.set_exception(why)


def _exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
