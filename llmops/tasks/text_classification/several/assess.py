"""What raw answers with several labels are worth: metrics, agreement with another model, calibration, thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.engine.ragged import Ragged
from llmops.tasks.text_classification.baseline import read_rows
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.several.calibration import fit, probabilities
from llmops.tasks.text_classification.several.metrics import counts, f1, figures
from llmops.tasks.text_classification.several.thresholds import at_common_cut, choose
from llmops.tasks.timing import as_measured, raw_answers, time_single

Array = np.ndarray[Any, Any]


def truth(dataset: Path, split: str) -> Array:
    """Which labels the rows of a split have, bool [rows, labels]."""
    return Ragged.read(dataset / f"{split}.safetensors").labels.astype(bool)


def quality(section: TextClassificationSection, dataset: Path, split: str, logits: Array) -> dict[str, float]:
    """f1_micro, f1_macro, subset_accuracy, average_precision, hamming_loss of logits, float32 [rows, labels], in the
    split's order, at the one cut of all labels that is best there: thresholds are chosen afterwards."""
    return at_common_cut(logits, truth(dataset, split))


def calibrate(
    section: TextClassificationSection, dataset: Path, logits: Array
) -> tuple[dict[str, Any], dict[str, float]]:
    """Fitted on the validation split's logits: ({"slope", "intercepts", "thresholds"}, the metrics with these there).

    The thresholds are chosen on the rows that they are measured on, so the figures are a little too good.
    """
    true = truth(dataset, "valid")
    slope, intercepts = fit(logits, true)
    chances = probabilities(logits, slope, intercepts)
    cuts = choose(section.metric, chances, true)
    settings = {"slope": slope, "intercepts": intercepts, "thresholds": [float(cut) for cut in cuts]}
    return settings, figures(true, chances >= cuts, chances)


def agreement(ours: Array, theirs: Array) -> float:
    """How far two models give the same labels, bool [rows, labels] each: of all labels given by the two together, the
    share that both give (the F1 of one against the other, or Dice's coefficient); 1 where neither gives any.

    Decisions against a label are not counted: nearly all are, and two models that hardly give a label would agree.
    """
    found = counts(theirs, ours).sum(1)
    return float(f1(found)) if found[1] + found[2] else 1.0


def measure(section: TextClassificationSection, dataset: Path, opened: Opened, trained: Array) -> Measured:
    """A candidate's latency, rate, metrics, and its agreement with `trained`, the trained model's logits on validation,
    when both are calibrated as the trained model.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s in batches of 16, valid_<metric>.
    """
    requests = [opened.codec.request(row) for row in read_rows(dataset / "valid.jsonl")]
    single = time_single(opened, requests)
    answers, rate = raw_answers(opened, requests)
    found = quality(section, dataset, "valid", answers)
    settings, _ = calibrate(section, dataset, trained)
    ours, theirs = (given(settings, logits) for logits in (answers, trained))
    return as_measured(section.metric, found, agreement(ours, theirs), single, rate, answers)


def given(settings: dict[str, Any], logits: Array) -> Array:
    """The labels that a calibration gives, bool [rows, labels]."""
    chances = probabilities(logits, settings["slope"], settings["intercepts"])
    decided: Array = chances >= np.array(settings["thresholds"])
    return decided
