"""Batcher: requests that wait at the same time are computed together.

A request that finds the model idle is computed at once, by all threads; those that come meanwhile make the next
batches, of which as many go on at once as the model has lanes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from llmops.serving.pace import Pace, together

Compute = Callable[[Sequence[Any]], list[Any]]
INLINE_S = 0.005
"""A batch that is alone and should take no longer is computed by the event loop itself: to hand it to a thread and back
costs a tenth of it."""
SURE = 8
"""Batches from which a pace is known."""
MOST_LANES = 16
"""Batches computed at once at most, however many cores there are."""


class Model(Protocol):
    """What computes."""

    @property
    def lanes(self) -> int:
        """Batches that may be computed at once."""

    def answer(self, requests: Sequence[Any], alone: bool) -> list[Any]:
        """An answer to each request; `alone`: no other batch is computed meanwhile."""


class QueueFull(Exception):
    """No place for these requests now."""


class Closing(Exception):
    """The server is stopping and takes no more."""


@dataclass(eq=False)
class Ticket:
    """One request in the queue. `size`: how long it is, in cells (tokens), of which a batch pads all to the longest;
    `since` is in seconds of the loop's clock."""

    request: Any
    size: int
    since: float
    answer: asyncio.Future[Any] = field(repr=False)


class Batcher:
    """A bounded queue and the worker that empties it.

    `model` is called in the event loop at the start of each batch and returns what computes it in a thread: so a model
    can be exchanged between two batches, and never within one.
    """

    def __init__(
        self,
        model: Callable[[], Model],
        max_batch: int,
        max_wait_s: float,
        queue: int,
        observe: Callable[[int], None] = lambda size: None,
        target_s: float = 1.0,
    ) -> None:
        """A batch has at most `max_batch` requests, and so many that it should be computed within `target_s`; the first
        waits up to `max_wait_s` for company. `observe` hears the size of every batch."""
        self.model, self.max_batch, self.max_wait_s, self.queue = model, max_batch, max_wait_s, queue
        self.observe, self.target_s = observe, target_s
        self.paces = {True: Pace(), False: Pace()}
        """How long batches take that are alone, and others."""
        self._going: set[asyncio.Task[None]] = set()
        self._alone = False
        """Whether the batch that is computed has the model for itself."""
        self._waiting: list[Ticket] = []
        self._news = asyncio.Event()
        self._closing = False
        self._threads = ThreadPoolExecutor(MOST_LANES, thread_name_prefix="compute")
        self._worker = asyncio.create_task(self._work(), name="batcher")

    def submit(self, requests: Sequence[Any], size: Callable[[Any], int]) -> list[Ticket]:
        """Queue all of `requests` or none. Raises QueueFull or Closing."""
        if self._closing or self._worker.done():
            raise Closing
        if len(self._waiting) + len(requests) > self.queue:
            raise QueueFull
        loop = asyncio.get_running_loop()
        tickets = [Ticket(request, size(request), loop.time(), loop.create_future()) for request in requests]
        self._waiting.extend(tickets)
        self._news.set()
        return tickets

    def withdraw(self, tickets: Sequence[Ticket]) -> None:
        """Free the places of requests that nobody waits for any more."""
        gone = set(tickets)
        self._waiting = [ticket for ticket in self._waiting if ticket not in gone]
        for ticket in tickets:
            ticket.answer.cancel()

    def waiting(self) -> int:
        """Requests in the queue, not counting those being computed."""
        return len(self._waiting)

    def alive(self) -> bool:
        """Whether requests are taken and answered."""
        return not self._closing and not self._worker.done()

    async def close(self) -> None:
        """Answer what waits, then end the worker and its thread."""
        self._closing = True
        self._news.set()
        await self._worker
        self._threads.shutdown()

    async def _work(self) -> None:
        while await self._somebody():
            await self._company()
            if free := await self._lane():
                self._start(free)
        if self._going:
            await asyncio.wait(self._going)

    async def _lane(self) -> int:
        """Wait for a free lane; how many there are. 0 when nobody waits any more."""
        while self._waiting:
            free = 0 if self._going and self._alone else self._lanes() - len(self._going)
            if free > 0:
                return free
            await asyncio.wait(self._going, return_when=asyncio.FIRST_COMPLETED)
        return 0

    def _lanes(self) -> int:
        return min(self.model().lanes, MOST_LANES)

    def _start(self, free: int) -> None:
        """Take a batch and have it computed, with the model for itself where nobody else is there."""
        batch = self._take(free)
        self._alone = not self._going and (not self._waiting or self._lanes() == 1)
        self.observe(len(batch))
        task = asyncio.create_task(self._answer(batch, self._alone))
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def _somebody(self) -> bool:
        """Wait for a request; False when the batcher closes and none waits."""
        while not self._waiting and not self._closing:
            self._news.clear()
            await self._news.wait()
        return bool(self._waiting)

    async def _company(self) -> None:
        """Wait until the batch is full or its oldest request has waited long enough."""
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._waiting) < self.max_batch and not self._closing:
            until = self._waiting[0].since + self.max_wait_s
            if loop.time() >= until:
                return
            self._news.clear()
            alarm = loop.call_at(until, self._news.set)
            await self._news.wait()
            alarm.cancel()

    def _take(self, free: int) -> list[Ticket]:
        """The oldest request, so that nobody waits for ever, and those that go with it best; where several lanes are
        free they share who waits."""
        waiting = self._waiting
        most = min(self.max_batch, -(-len(waiting) // free))
        pace = self.paces[not self._going and len(waiting) <= most]
        places = together([ticket.size for ticket in waiting], most, pace, self.target_s)
        taken = set(places)
        self._waiting = [ticket for place, ticket in enumerate(waiting) if place not in taken]
        return [waiting[place] for place in places]

    async def _answer(self, batch: list[Ticket], alone: bool) -> None:
        compute = partial(self.model().answer, alone=alone)
        requests = [ticket.request for ticket in batch]
        longest, pace = max(ticket.size for ticket in batch), self.paces[alone]
        if alone and pace.learnt >= SURE and pace.seconds(len(batch), longest) < INLINE_S:
            outcomes, took_s = _timed(compute, requests)
        else:
            loop = asyncio.get_running_loop()
            outcomes, took_s = await loop.run_in_executor(self._threads, _timed, compute, requests)
        pace.learn(len(batch) * longest, took_s)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if ticket.answer.done():  # its client hung up
                continue
            if isinstance(outcome, Exception):
                ticket.answer.set_exception(outcome)
            else:
                ticket.answer.set_result(outcome)


def _timed(compute: Compute, requests: list[Any]) -> tuple[list[Any], float]:
    """The outcomes, and the seconds that they took."""
    began = time.perf_counter()
    return _outcomes(compute, requests), time.perf_counter() - began


def _outcomes(compute: Compute, requests: list[Any]) -> list[Any]:
    """An answer or an exception for each request; when a batch fails, each is tried alone, for its neighbours' sake."""
    try:
        return compute(requests)
    except BaseException as error:  # a panic in a Rust tokenizer is no Exception
        if len(requests) == 1:
            return [error if isinstance(error, Exception) else RuntimeError(repr(error))]
        return [_outcomes(compute, [request])[0] for request in requests]
