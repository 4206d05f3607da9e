"""Measures a candidate on this machine, as the server would: the real codec and runtime, real validation rows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.stages.compress.candidates import MODEL, TOKENIZER

SINGLE = 200
"""Rows answered one by one, for latency."""
WARM_UP = 10
BATCH = 16


@dataclass(frozen=True)
class Measured:
    """A candidate's figures. `quality` is the task's metric on validation, `agreement` the share of validation rows
    on which it says what the trained model says, `answers` its raw answers to the validation rows."""

    name: str
    size_mb: float
    latency_p50_ms: float
    latency_p95_ms: float
    rows_per_s: float
    quality: float
    agreement: float
    answers: np.ndarray[Any, Any]


def open_candidate(folder: Path, fields: Mapping[str, Any]) -> Predictor:
    """A candidate as a bundle that answers; `fields` are bundle.json's, not yet calibrated."""
    bundle_format.write(folder, fields)
    return Predictor.open(folder)


def requests_of(codec: Any, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Rows of a data set as the server's requests."""
    names = codec.Request.model_fields
    return [codec.Request(**{name: row[name] for name in names if name in row}) for row in rows]


def read_rows(dataset: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split as they stand in the data set."""
    lines = (dataset / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def size_mb(folder: Path) -> float:
    """Weights and tokenizer, 1 MB = 1e6 bytes."""
    return sum((folder / name).stat().st_size for name in (MODEL, TOKENIZER)) / 1e6


def time_single(predictor: Predictor, requests: Sequence[Any]) -> tuple[float, float]:
    """p50 and p95 of the milliseconds for one request, over an even sample of the rows."""
    sample = [requests[index * len(requests) // SINGLE] for index in range(SINGLE)] if requests else []
    for request in sample[:WARM_UP]:
        predictor.answer([request])
    took = []
    for request in sample:
        began = time.perf_counter()
        predictor.answer([request])
        took.append((time.perf_counter() - began) * 1000)
    return float(np.percentile(took, 50)), float(np.percentile(took, 95))


def answer_all(predictor: Predictor, requests: Sequence[Any]) -> tuple[np.ndarray[Any, Any], float]:
    """Raw answers to all requests in their order, float32 [rows, classes], and rows a second, in batches of 16."""
    began = time.perf_counter()
    parts = [
        predictor.runtime.run(predictor.codec.encode(requests[start : start + BATCH]))[0]
        for start in range(0, len(requests), BATCH)
    ]
    return np.concatenate(parts), len(requests) / (time.perf_counter() - began)
