"""Measures a candidate on this machine, as the server would: the real codec and runtime, real validation rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.tasks.text_classification.assess import agreement, quality
from llmops.tasks.text_classification.baseline import read_rows

SINGLE = 200
"""Rows answered one by one, for latency."""
WARM_UP = 10
BATCH = 16


def measure(metric: str, dataset: Path, opened: Opened, trained: np.ndarray[Any, Any]) -> Measured:
    """A candidate's latency, rate, metrics, and its agreement with `trained`, the trained model's logits on validation.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s in batches of 16, valid_<metric>.
    """
    requests = requests_of(opened.codec, read_rows(dataset / "valid.jsonl"))
    p50, p95 = time_single(opened, requests)
    answers, rate = answer_all(opened, requests)
    found = quality(dataset, "valid", answers)
    return Measured(
        quality=found[metric],
        agreement=agreement(dataset, "valid", answers, trained),
        cost_ms=p50,
        figures={
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "rows_per_s": rate,
            **{f"valid_{name}": value for name, value in found.items()},
        },
        answers=answers,
    )


def requests_of(codec: Any, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Rows of a data set as the server's requests."""
    return [codec.Request(**{codec.one: row["text"]}) for row in rows]


def time_single(opened: Opened, requests: Sequence[Any]) -> tuple[float, float]:
    """p50 and p95 of the milliseconds for one request, over an even sample of the rows."""
    sample = [requests[index * len(requests) // SINGLE] for index in range(SINGLE)] if requests else []
    for request in sample[:WARM_UP]:
        answer(opened, request)
    took = []
    for request in sample:
        began = time.perf_counter()
        answer(opened, request)
        took.append((time.perf_counter() - began) * 1000)
    return float(np.percentile(took, 50)), float(np.percentile(took, 95))


def answer(opened: Opened, request: Any) -> Any:
    """The response to one request."""
    return opened.codec.decode(opened.runtime.run(opened.codec.encode([request])), [request])


def answer_all(opened: Opened, requests: Sequence[Any]) -> tuple[np.ndarray[Any, Any], float]:
    """Raw answers to all requests in their order, float32 [rows, classes], and rows a second, in batches of 16."""
    began = time.perf_counter()
    parts = [
        opened.runtime.run(opened.codec.encode(requests[start : start + BATCH]))[0]
        for start in range(0, len(requests), BATCH)
    ]
    return np.concatenate(parts), len(requests) / (time.perf_counter() - began)
