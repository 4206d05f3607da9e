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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from llmops.core.protocols import Stepper, WritingCodec
from llmops.serving.batcher import Closing, QueueFull
from llmops.serving.logprobs import Named, named
from llmops.serving.metrics import WritingMetrics
from llmops.serving.running import Running
from llmops.serving.stream import Ask, Box, Piece, Stream

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Scoring:
    """A text whose tokens' probabilities are asked for. `told` gets a Named for each token but the first."""

    tokens: Sequence[int]
    top: int
    told: asyncio.Future[list[Named]] = field(repr=False)


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
        return self.submit_all([ask])[0]

    def submit_all(self, asks: Sequence[Ask]) -> list[Stream]:
        """Queue all answers to one request, or none of them; `together` reads them. Raises QueueFull or Closing."""
        box: Box = asyncio.Queue()
        streams = [Stream(ask, box) for ask in asks]
        self._queue(*streams)
        return streams

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

    def _queue(self, *jobs: Stream | Scoring) -> None:
        with self._news:
            if not self.alive():
                raise Closing
            if len(self._waiting) + len(jobs) > self.queue:
                raise QueueFull
            self._waiting.extend(jobs)
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
