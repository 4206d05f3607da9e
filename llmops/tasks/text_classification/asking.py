"""Asks the real server every held-out text, and takes the time of those sent one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.core.protocols import Server

PATH = "/v1/predict"
SAMPLE = 200
"""Rows sent one by one, for latency."""
WARM_UP = 10
"""Calls before the clock counts."""
BATCH = 32


@dataclass(frozen=True)
class Answers:
    """The server's response to each row, in their order; `latency_ms` of those sent one by one, by row."""

    responses: list[dict[str, Any]]
    latency_ms: dict[int, float]


def ask(server: Server, texts: Sequence[str], one: str, many: str, told: Callable[[int], None]) -> Answers:
    """Send every text: an even sample of up to 200 one by one, the rest in batches.

    `one` and `many` are the codec's names in a request's body; `told` hears how many are answered.
    Raises DataError when an answer is not 200.
    """
    sample = even_sample(len(texts), SAMPLE)
    rest = sorted(set(range(len(texts))).difference(sample))
    responses: dict[int, Any] = {}
    latency_ms: dict[int, float] = {}
    for place in sample[:WARM_UP]:
        server.post(PATH, {one: texts[place]})
    for place in sample:
        started = time.perf_counter()
        responses[place] = server.post(PATH, {one: texts[place]})
        latency_ms[place] = (time.perf_counter() - started) * 1000
    for start in range(0, len(rest), BATCH):
        told(len(responses))
        places = rest[start : start + BATCH]
        said = server.post(PATH, {many: [texts[place] for place in places]})["results"]
        responses.update(zip(places, said, strict=True))
    told(len(texts))
    return Answers([responses[place] for place in range(len(texts))], latency_ms)


def even_sample(total: int, most: int) -> list[int]:
    """At most `most` places of `total`, evenly spread."""
    count = min(total, most)
    return [index * total // count for index in range(count)]
