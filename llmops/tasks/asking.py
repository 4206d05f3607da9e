"""Asks the real server every held-out row, and takes the time of those sent one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.protocols import Server
from llmops.core.report import Number

PATH = "/v1/predict"
SAMPLE = 200
"""Rows sent one by one, for latency."""
WARM_UP = 10
"""Calls before the clock counts."""
BATCH = 32
AT_ONCE = 8
"""Calls in flight, of a server that takes one row a call."""
Many = Callable[[list[Any]], Any]
"""The bodies of some rows -> the body that asks them all."""
Keep = Callable[[int, Any], Any]
"""A row's place and the response to it -> what is kept of that."""


@dataclass(frozen=True)
class Answers:
    """The server's response to each row, in their order; `latency_ms` of those sent one by one, by row."""

    responses: list[dict[str, Any]]
    latency_ms: dict[int, float]

    def latency(self) -> dict[str, Number]:
        """Percentiles of one request's time through HTTP, in milliseconds."""
        times = list(self.latency_ms.values())
        return {"latency_p50_ms": float(np.percentile(times, 50)), "latency_p95_ms": float(np.percentile(times, 95))}


def ask(
    server: Server,
    bodies: Sequence[Any],
    many: Many | None,
    told: Callable[[int], None],
    keep: Keep = lambda place, said: said,
) -> Answers:
    """Send the body of every row: an even sample of up to 200 one by one, the rest in batches.

    `many` makes one body of several; None: the rest go one by one too, several at a time. `told` hears how many are
    answered, `keep` says what stays of each response. Raises DataError when an answer is not 200.
    """
    sample = even_sample(len(bodies), SAMPLE)
    rest = sorted(set(range(len(bodies))).difference(sample))
    responses: dict[int, Any] = {}
    latency_ms: dict[int, float] = {}
    for place in sample[:WARM_UP]:
        server.post(PATH, bodies[place])
    for place in sample:
        started = time.perf_counter()
        said = server.post(PATH, bodies[place])
        latency_ms[place] = (time.perf_counter() - started) * 1000
        responses[place] = keep(place, said)
        told(len(responses))
    gathered = _apart(server, bodies, rest) if many is None else together(server, bodies, rest, many)
    for place, said in gathered:
        responses[place] = keep(place, said)
        told(len(responses))
    return Answers([responses[place] for place in range(len(bodies))], latency_ms)


def together(server: Server, bodies: Sequence[Any], places: Sequence[int], many: Many) -> Iterator[tuple[int, Any]]:
    """(place, response) of the rows at these places, asked in batches."""
    for start in range(0, len(places), BATCH):
        some = places[start : start + BATCH]
        yield from zip(some, server.post(PATH, many([bodies[at] for at in some]))["results"], strict=True)


def _apart(server: Server, bodies: Sequence[Any], places: Sequence[int]) -> Any:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from zip(places, pool.map(lambda place: server.post(PATH, bodies[place]), places), strict=True)


def even_sample(total: int, most: int) -> list[int]:
    """At most `most` places of `total`, evenly spread."""
    count = min(total, most)
    return [index * total // count for index in range(count)]
