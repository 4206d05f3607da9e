"""Times an opened candidate as the server would use it: one request after the other, and in batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.fields.rows import read_split

SINGLE = 200
"""Rows answered one by one, for latency."""
WARM_UP = 10
BATCH = 32
"""Rows that the server computes together at most, by default."""
TURNS = 3
PAIRED = 40


def answer(opened: Opened, requests: Sequence[Any]) -> list[Any]:
    """The responses to some requests, computed together."""
    return list(opened.codec.decode(opened.runtime.run(opened.codec.encode(requests)), requests))


def time_single(opened: Opened, requests: Sequence[Any]) -> tuple[float, float]:
    """p50 and p95 of the milliseconds for one request, over an even sample of the rows."""
    sample = [requests[index * len(requests) // SINGLE] for index in range(SINGLE)] if requests else []
    for request in sample[:WARM_UP]:
        answer(opened, [request])
    took = []
    for request in sample:
        began = time.perf_counter()
        answer(opened, [request])
        took.append((time.perf_counter() - began) * 1000)
    return float(np.percentile(took, 50)), float(np.percentile(took, 95))


def cost_ratio(opened: Opened, other: Opened, requests: Sequence[Any]) -> float:
    """How many times as long as `other` a candidate takes for one request: the median over alternating turns, in which
    both see the same requests, so that what else the machine does falls on both."""
    sample = requests[:PAIRED]
    ratios = []
    for _ in range(TURNS):
        took = [0.0, 0.0]
        for request in sample:
            for place, one in enumerate((opened, other)):
                began = time.perf_counter()
                answer(one, [request])
                took[place] += time.perf_counter() - began
        ratios.append(took[0] / max(took[1], 1e-9))
    return float(np.median(ratios))


def as_measured(
    metric: str,
    found: Mapping[str, float],
    agreement: float,
    single_ms: tuple[float, float],
    rate: float,
    answers: np.ndarray[Any, Any],
) -> Measured:
    """What was timed (`time_single`, rows a second) and what the raw answers are worth (`found`), as compress takes it.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s, valid_<figure>.
    """
    p50, p95 = single_ms
    return Measured(
        quality=found[metric],
        agreement=agreement,
        cost_ms=p50,
        figures={
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "rows_per_s": rate,
            **{f"valid_{name}": value for name, value in found.items()},
        },
        answers=answers,
    )


def by_size(opened: Opened, requests: Sequence[Any], batch: int) -> Iterator[list[int]]:
    """The places of requests, `batch` at a time, those of like size together."""
    order = sorted(range(len(requests)), key=lambda place: opened.codec.size(requests[place]))
    return (order[start : start + batch] for start in range(0, len(order), batch))


def split_answers(opened: Opened, dataset: Path, split: str) -> np.ndarray[Any, Any]:
    """The first output of the runtime to all rows of a split, in their order."""
    return raw_answers(opened, [opened.codec.request(row) for row in read_split(dataset, split)])[0]


def raw_answers(opened: Opened, requests: Sequence[Any], batch: int = BATCH) -> tuple[np.ndarray[Any, Any], float]:
    """The first output of the runtime to all requests in their order [rows, ..], and rows a second."""
    began = time.perf_counter()
    parts = [
        opened.runtime.run(opened.codec.encode(requests[start : start + batch]))[0]
        for start in range(0, len(requests), batch)
    ]
    return np.concatenate(parts), len(requests) / (time.perf_counter() - began)
