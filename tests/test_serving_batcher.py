"""batcher: groups what waits, keeps its bound, frees the places of those who leave, isolates a bad request."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llmops.serving.batcher import Batcher, Closing, QueueFull
from tests import standin
from tests.standin import Caller


class Gate:
    """A function to compute with: it waits until opened, and remembers its batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        assert self.open.wait(10)
        self.batches.append(list(requests))
        if "bad" in requests:
            raise ValueError("a bad request")
        return [f"answer to {request}" for request in requests]


class Lanes:
    """A model of one lane, or of several."""

    def __init__(self, compute: Callable[..., list[Any]], lanes: int = 1) -> None:
        self.compute, self.lanes = compute, lanes

    def answer(self, requests: Sequence[Any], alone: bool) -> list[Any]:
        return self.compute(requests)


@asynccontextmanager
async def batching(compute: Callable[..., list[Any]], **limits: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(lambda: Lanes(compute), **{"max_batch": 4, "max_wait_s": 0.005, "queue": 8, **limits})
    yield batcher
    await batcher.close()


async def taken(batcher: Batcher) -> None:
    """Wait until nothing waits in the queue: the worker is computing."""
    while batcher.waiting():
        await asyncio.sleep(0.001)


def test_groups_what_waits_and_answers_each_its_own() -> None:
    async def story() -> None:
        gate = Gate()
        async with batching(gate) as batcher:
            [first] = batcher.submit(["first"], len)
            await taken(batcher)
            rest = batcher.submit([f"r{place}" for place in range(8)], len)
            gate.open.set()
            assert await first.answer == "answer to first"
            assert [await ticket.answer for ticket in rest] == [f"answer to r{place}" for place in range(8)]
        assert [len(batch) for batch in gate.batches] == [1, 4, 4]

    asyncio.run(story())


def test_an_idle_model_does_not_wait_for_company() -> None:
    async def story() -> None:
        gate = Gate()
        gate.open.set()
        async with batching(gate, max_wait_s=0.0) as batcher:
            [first] = batcher.submit(["first"], len)
            assert await first.answer == "answer to first"
            assert gate.batches == [["first"]]

    asyncio.run(story())


def test_a_batch_takes_the_oldest_and_those_of_its_size() -> None:
    async def story() -> None:
        gate = Gate()
        async with batching(gate, max_batch=2) as batcher:
            batcher.submit(["x"], len)
            await taken(batcher)
            batcher.submit(["a" * 50, "b", "c" * 51, "d"], len)
            gate.open.set()
        lengths = [{len(request) for request in batch} for batch in gate.batches[1:]]
        assert 50 in lengths[0] and all(one <= {50, 51} or one == {1} for one in lengths)

    asyncio.run(story())


def test_the_bound_holds_for_all_or_none() -> None:
    async def story() -> None:
        gate = Gate()
        async with batching(gate) as batcher:
            batcher.submit(["computing"], len)
            await taken(batcher)
            batcher.submit(["x"] * 7, len)
            with pytest.raises(QueueFull):
                batcher.submit(["y", "y"], len)
            assert batcher.waiting() == 7
            batcher.submit(["z"], len)
            gate.open.set()

    asyncio.run(story())


def test_who_leaves_frees_his_place() -> None:
    async def story() -> None:
        gate = Gate()
        async with batching(gate) as batcher:
            batcher.submit(["computing"], len)
            await taken(batcher)
            gone = batcher.submit(["gone"] * 8, len)
            batcher.withdraw(gone)
            stays = batcher.submit(["stays"] * 8, len)
            gate.open.set()
            assert await stays[-1].answer == "answer to stays"
        assert not any("gone" in batch for batch in gate.batches)

    asyncio.run(story())


def test_a_bad_request_does_not_fail_its_neighbours() -> None:
    async def story() -> None:
        gate = Gate()
        gate.open.set()
        async with batching(gate, max_wait_s=0.05) as batcher:
            good, bad, fine = batcher.submit(["good", "bad", "fine"], len)
            assert await good.answer == "answer to good"
            assert await fine.answer == "answer to fine"
            with pytest.raises(ValueError, match="a bad request"):
                await bad.answer

    asyncio.run(story())


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    async def story() -> None:
        gate = Gate()
        batcher = Batcher(lambda: Lanes(gate), max_batch=2, max_wait_s=0.0, queue=8)
        tickets = batcher.submit(["x"] * 5, len)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Closing):
            batcher.submit(["late"], len)
        assert not batcher.alive()
        gate.open.set()
        await closing
        assert [await ticket.answer for ticket in tickets] == ["answer to x"] * 5

    asyncio.run(story())


def test_a_lone_request_waits_no_longer_than_max_wait() -> None:
    async def story() -> float:
        gate = Gate()
        gate.open.set()
        async with batching(gate, max_wait_s=0.05) as batcher:
            loop = asyncio.get_running_loop()
            started = loop.time()
            await batcher.submit(["x"], len)[0].answer
            return loop.time() - started

    assert 0.045 < asyncio.run(story()) < 0.5


def test_a_full_queue_is_refused_with_429_and_a_client_that_hangs_up_makes_room(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", slow=120)  # an answer takes far longer than asking for it
    with standin.serve_bundle(bundle, queue=3, max_batch=1, max_wait_ms=0) as (_, port):
        crowd = [Caller(port) for _ in range(12)]
        for caller in crowd:  # one is computed, three wait, the others are refused at once
            caller.connection.request("POST", "/v1/predict", b'{"text": "card"}', {"Content-Type": "application/json"})
        sockets = {caller.connection.sock: caller for caller in crowd}
        told = [sockets[sock] for sock in select.select(list(sockets), [], [], 60)[0]]
        refusal = told[0].connection.getresponse()
        assert refusal.status == 429
        assert int(refusal.headers["retry-after"]) >= 1
        assert b"queue-full" in refusal.read()
        for caller in crowd:
            if caller is not told[0]:
                caller.connection.close()
        watcher = Caller(port)
        standin.wait_until(lambda: b'code="499",path="/v1/predict"' in watcher.raw("GET", "/metrics")[2], 60)
        standin.wait_until(lambda: b"llmops_queue_depth 0.0" in watcher.raw("GET", "/metrics")[2], 60)
