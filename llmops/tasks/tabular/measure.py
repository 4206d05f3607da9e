"""Measures a candidate on this machine, as the server would: the real codec and runtime, real validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.fields.rows import read_split
from llmops.tasks.tabular.arrays import Arrays, read_labels
from llmops.tasks.tabular.config import TabularSection
from llmops.tasks.tabular.quality import figures
from llmops.tasks.tabular.settle import settle
from llmops.tasks.timing import as_measured, raw_answers, time_single

Floats = np.ndarray[Any, Any]
MOST = 5_000
"""Rows that go through the codec, evenly spread; figures are of all rows."""
BATCH = 64
CHUNK = 16_384
CLOSE = 1e-5
"""Answers no further apart than this agree."""


def measure(section: TabularSection, dataset: Path, opened: Opened, trained: Floats) -> Measured:
    """A candidate's latency and rate with reasons, its figures, and its agreement with `trained`, the trained model's
    raw answers to validation.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s in batches of 64, valid_<figure>.
    """
    rows, arrays = read_split(dataset, "valid"), Arrays.read(dataset, "valid")
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(np.int64))
    codec = opened.codec
    requests = [codec.Request.model_validate(codec.sent(row)) for row in rows.take(places)]
    single = time_single(opened, requests)
    answers, rate = raw_answers(opened, requests, BATCH)
    raw = answer_arrays(opened, arrays.x)
    told = figures(section, opened.settings, raw, arrays.y, arrays.weight)
    near = np.abs(answers - trained[places]) <= CLOSE * np.maximum(1.0, np.abs(trained[places]))
    return as_measured(section.metric_name, told, float(near.all(axis=1).mean()), single, rate, raw)


def answer_arrays(opened: Opened, x: Floats) -> Floats:
    """Raw answers of a bundle to features that are there already, float64 [rows, outputs]."""
    parts = [opened.runtime.run(opened.codec.plain_arrays(x[at : at + CHUNK]))[0] for at in range(0, len(x), CHUNK)]
    return np.concatenate(parts)


def quality(section: TabularSection, dataset: Path, split: str, answers: Floats) -> dict[str, float]:
    """The figures of raw answers to a split; probabilities, threshold or interval are those that suit these rows."""
    rows = Arrays.read(dataset, split)
    settled = settle(section, answers, rows.y, rows.weight, len(read_labels(dataset)))
    return figures(section, settled, answers, rows.y, rows.weight)
