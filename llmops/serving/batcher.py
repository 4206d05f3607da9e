"""Batcher: requests that wait at the same time are computed together, one batch after the other in one thread.

A request that finds the model idle is computed at once; those that come meanwhile make the next batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from llmops.serving.pace import Pace, together

Compute = Callable[[Sequence[Any]], list[Any]]


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
    """A bounded queue and the one worker that empties it.

    `begin` is called in the event loop at the start of each batch and returns the function that computes it in
    the thread: so a model can be exchanged between two batches, and never within one.
    """

    def __init__(
        self,
        begin: Callable[[], Compute],
        max_batch: int,
        max_wait_s: float,
        queue: int,
        observe: Callable[[int], None] = lambda size: None,
        target_s: float = 1.0,
    ) -> None:
        """A batch has at most `max_batch` requests, and so many that it should be computed within `target_s`; the first
        waits up to `max_wait_s` for company. `observe` hears the size of every batch."""
        self.begin, self.max_batch, self.max_wait_s, self.queue = begin, max_batch, max_wait_s, queue
        self.observe, self.target_s, self.pace = observe, target_s, Pace()
        self._waiting: list[Ticket] = []
        self._news = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
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
        self._thread.shutdown()

    async def _work(self) -> None:
        while await self._somebody():
            await self._company()
            if self._waiting:
                batch = self._take()
                self.observe(len(batch))
                await self._answer(batch)

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

    def _take(self) -> list[Ticket]:
        """The oldest request, so that nobody waits for ever, and those that go with it best."""
        waiting = self._waiting
        places = together([ticket.size for ticket in waiting], self.max_batch, self.pace, self.target_s)
        taken = set(places)
        self._waiting = [ticket for place, ticket in enumerate(waiting) if place not in taken]
        return [waiting[place] for place in places]

    async def _answer(self, batch: list[Ticket]) -> None:
        compute = self.begin()
        requests = [ticket.request for ticket in batch]
        outcomes, took_s = await asyncio.get_running_loop().run_in_executor(self._thread, _timed, compute, requests)
        self.pace.learn(len(batch) * max(ticket.size for ticket in batch), took_s)
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
