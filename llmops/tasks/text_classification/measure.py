"""Measures a candidate on this machine, as the server would: the real codec and runtime, real validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.tasks.text_classification.assess import agreement, quality
from llmops.tasks.text_classification.baseline import read_rows
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.timing import as_measured, raw_answers, time_single


def measure(
    section: TextClassificationSection, dataset: Path, opened: Opened, trained: np.ndarray[Any, Any]
) -> Measured:
    """A candidate's latency, rate, metrics, and its agreement with `trained`, the trained model's logits on validation.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s in batches of 16, valid_<metric>.
    """
    requests = [opened.codec.request(row) for row in read_rows(dataset / "valid.jsonl")]
    single = time_single(opened, requests)
    answers, rate = raw_answers(opened, requests)
    found = quality(section, dataset, "valid", answers)
    same = agreement(dataset, "valid", answers, trained)
    return as_measured(section.metric, found, same, single, rate, answers)
