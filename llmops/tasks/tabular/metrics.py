"""Figures of answers, with scikit-learn's names and values, in numpy alone. Rows may be weighted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from llmops.core.report import Curve
from llmops.tasks.confusion import by_class, confusion
from llmops.tasks.ranking import macro_auc, macro_average_precision

Floats = np.ndarray[Any, Any]
BINS = 10
TINY = 1e-15


def log_loss(truth: Floats, probabilities: Floats, weight: Floats | None = None) -> float:
    """Mean -log p of the true class; a class that the model does not know counts as p = 1e-15."""
    known = truth >= 0
    chosen = np.where(known, probabilities[np.arange(len(truth)), np.maximum(truth, 0)], TINY)
    return float(np.average(-np.log(np.clip(chosen, TINY, 1.0)), weights=weight))


def brier(event: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.average((score - event) ** 2, weights=weight))


def calibration_error(event: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Expected calibration error over ten bins of equal counts."""
    w = np.ones(len(event)) if weight is None else weight.astype(float)
    if not len(event) or not w.sum():
        return 0.0
    parts = [places for places in np.array_split(np.argsort(score, kind="stable"), BINS) if w[places].sum() > 0]
    gaps = [w[p].sum() * abs(np.average(score[p], weights=w[p]) - np.average(event[p], weights=w[p])) for p in parts]
    return float(sum(gaps) / w.sum())


def of_classes(truth: Floats, probabilities: Floats, decided: Floats, weight: Floats | None = None) -> dict[str, float]:
    """All figures of class answers: `truth` class numbers (-1: unknown), probabilities [rows, classes], `decided` class
    numbers. precision and recall are of the second of two classes, and macro means of more."""
    classes = probabilities.shape[1]
    w = np.ones(len(truth)) if weight is None else weight.astype(float)
    # a class that training lacks gets a number that is never answered, so that its rows count as wrong
    counts = confusion(np.where(truth < 0, classes, truth), decided, classes + 1, w)
    table = {name: column[:classes] for name, column in by_class(counts).items()}
    seen = (counts.sum(0) + counts.sum(1))[:classes] > 0
    chosen = slice(1, 2) if classes == 2 else seen
    found = {
        "roc_auc": macro_auc(truth, probabilities, weight),
        "log_loss": log_loss(truth, probabilities, weight),
        "accuracy": float(np.diag(counts).sum() / max(w.sum(), TINY)),
        "f1_macro": float(table["f1"][seen].mean()) if seen.any() else 0.0,
        "precision": float(table["precision"][chosen].mean()),
        "recall": float(table["recall"][chosen].mean()),
        "average_precision": macro_average_precision(truth, probabilities, weight),
    }
    if classes == 2:
        event, score = truth == 1, probabilities[:, 1]
        return found | {
            "brier": brier(event, score, weight),
            "calibration_error": calibration_error(event, score, weight),
        }
    return found | {"calibration_error": calibration_error(truth == decided, probabilities.max(1), weight)}


def of_numbers(truth: Floats, said: Floats, weight: Floats | None = None) -> dict[str, float]:
    """rmse, mae and r2."""
    error = said - truth
    squared = float(np.average(error**2, weights=weight))
    spread = float(np.average((truth - np.average(truth, weights=weight)) ** 2, weights=weight))
    return {
        "rmse": math.sqrt(squared),
        "mae": float(np.average(np.abs(error), weights=weight)),
        "r2": 1.0 - squared / spread if spread else 0.0,
    }


def reliability(event: Floats, score: Floats) -> Curve:
    """The share of events among rows of like probability, of ten bins of equal counts; some rows."""
    parts = np.array_split(np.argsort(score, kind="stable"), BINS)
    kept = [(float(score[part].mean()), float(event[part].mean())) for part in parts if len(part)]
    top = max(max(pair) for pair in kept)
    lines = {"model": kept, "ideal": [(0.0, 0.0), (top, top)]}
    return Curve("Reliability", "probability", "share of events", lines)
