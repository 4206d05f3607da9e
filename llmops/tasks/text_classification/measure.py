"""Measures a candidate on this machine, as the server would: the real codec and runtime, real validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.tasks.text_classification.assess import agreement, quality
from llmops.tasks.text_classification.baseline import read_rows
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.timing import raw_answers, time_single


def measure(
    section: TextClassificationSection, dataset: Path, opened: Opened, trained: np.ndarray[Any, Any]
) -> Measured:
    """A candidate's latency, rate, metrics, and its agreement with `trained`, the trained model's logits on validation.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s in batches of 16, valid_<metric>.
    """
    requests = [opened.codec.request(row) for row in read_rows(dataset / "valid.jsonl")]
    p50, p95 = time_single(opened, requests)
    answers, rate = raw_answers(opened, requests)
    found = quality(section, dataset, "valid", answers)
    return Measured(
        quality=found[section.metric],
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
