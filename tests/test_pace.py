"""pace: what goes together in a batch, over any queue; how long batches take, learnt from any machine."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from llmops.serving.batcher import Batcher, QueueFull
from llmops.serving.pace import Pace, together
from tests.test_serving_batcher import Lanes

sizes = some.lists(some.integers(1, 2000), min_size=1, max_size=80)
paces = some.builds(Pace, some.floats(0, 0.1), some.floats(0, 0.01))


@given(sizes, some.integers(1, 64), paces, some.floats(0.001, 10))
@settings(deadline=None)
def test_the_oldest_goes_first_and_no_limit_is_passed(
    waiting: list[int], most: int, pace: Pace, target_s: float
) -> None:
    places = together(waiting, most, pace, target_s)
    assert 0 in places
    assert len(set(places)) == len(places) <= most
    longest = max(waiting[place] for place in places)
    if len(places) > 1 and 2 * pace.start <= target_s:
        assert pace.seconds(len(places), longest) <= target_s + 1e-9


@given(sizes, some.integers(1, 64), paces)
@settings(deadline=None)
def test_company_never_costs_more_than_going_one_by_one(waiting: list[int], most: int, pace: Pace) -> None:
    places = together(waiting, most, pace, 1e9)
    longest = max(waiting[place] for place in places)
    alone = sum(pace.seconds(1, waiting[place]) for place in places)
    assert pace.seconds(len(places), longest) <= alone + 1e-9


def test_equal_ones_go_together_and_a_long_one_alone() -> None:
    pace = Pace(0.001, 0.0001)
    assert sorted(together([10, 10, 900, 10, 11], 16, pace, 1.0)) == [0, 1, 3, 4]
    assert together([900, 10, 10, 10], 16, pace, 1.0) == [0]
    assert len(together([10] * 40, 16, pace, 1.0)) == 16
    assert len(together([10] * 40, 32, pace, 0.0111)) == 10


@given(some.floats(0.0001, 0.05), some.floats(0.00001, 0.01), some.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_the_pace_of_any_machine_is_learnt(start: float, cell: float, seed: int) -> None:
    pace, dice = Pace(), random.Random(seed)
    for _ in range(150):
        cells = dice.randint(1, 2000)
        pace.learn(cells, (start + cell * cells) * dice.uniform(0.95, 1.05))
    for cells in (16, 400, 2000):
        assert abs(pace.seconds(1, cells) - start - cell * cells) <= 0.3 * (start + cell * cells) + 0.001


def test_one_size_alone_tells_a_pace_too() -> None:
    pace = Pace()
    for _ in range(100):
        pace.learn(1, 0.004)
    assert 0.0035 < pace.seconds(1, 1) < 0.0045
    assert pace.cell >= 0 and pace.start >= 0


arrivals = some.lists(
    some.tuples(some.sampled_from(["ask", "ask", "ask", "leave", "pause"]), some.integers(1, 5), some.integers(1, 300)),
    min_size=1, max_size=40,
)  # fmt: skip


@given(arrivals, some.integers(1, 6), some.integers(1, 20), some.integers(1, 3))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_pattern_of_arrivals(story: list[tuple[str, int, int]], max_batch: int, queue: int, lanes: int) -> None:
    """Every request that was taken is answered by its own answer, or was withdrawn; batches and queue keep their
    limits; no request is computed after it left the queue, or twice."""
    batches: list[list[Any]] = []
    lock = threading.Lock()

    def compute(requests: Sequence[Any]) -> list[Any]:
        with lock:
            batches.append(list(requests))
        return [("answer", request) for request in requests]

    async def run() -> None:
        batcher = Batcher(lambda: Lanes(compute, lanes), max_batch, 0.0, queue, target_s=0.05)
        kept: list[Any] = []
        left: list[Any] = []
        number = 0
        for what, count, size in story:
            if what == "pause":
                await asyncio.sleep(0.0005 * count)
            elif what == "leave" and kept:
                gone = kept.pop(len(kept) // 2)
                if gone in batcher._waiting:
                    left.append(gone.request)
                batcher.withdraw([gone])
            elif what == "ask":
                asked = [(number + place, size) for place in range(count)]
                number += count
                before = batcher.waiting()
                try:
                    kept += batcher.submit(asked, lambda one: one[1])
                except QueueFull:
                    assert before + count > queue and batcher.waiting() == before
                assert batcher.waiting() <= queue
        await batcher.close()
        for ticket in kept:
            assert await ticket.answer == ("answer", ticket.request)
        computed = [request for batch in batches for request in batch]
        assert len(computed) == len(set(computed)) and not set(left) & set(computed)
        assert all(1 <= len(batch) <= max_batch for batch in batches)

    asyncio.run(run())
