"""Figures of answers, with scikit-learn's names and values, in numpy alone. Rows may be weighted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llmops.core.intervals import Z95
from llmops.core.report import Curve

Floats = np.ndarray[Any, Any]
BINS = 10
TINY = 1e-15
DRAWS = 200
"""Resamples of a bootstrap interval."""
POINTS = 100
"""Points of a curve at most."""


def roc_auc(event: Floats, score: Floats, weight: Floats | None = None) -> float:
    """The chance that an event scores above another row, ties counting half; 0.5 where either is missing."""
    w = np.ones(len(event)) if weight is None else weight.astype(float)
    values, group = np.unique(score, return_inverse=True)
    events = np.bincount(group, weights=w * event, minlength=len(values))
    others = np.bincount(group, weights=w * ~event, minlength=len(values))
    total = events.sum() * others.sum()
    if total <= 0:
        return 0.5
    below = np.cumsum(others) - others
    return float((events * (below + others / 2)).sum() / total)


def average_precision(event: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Precision averaged over events, from the surest score down; 0 without events."""
    w = np.ones(len(event)) if weight is None else weight.astype(float)
    order = np.argsort(-score, kind="stable")
    found, all_ = np.cumsum((w * event)[order]), np.cumsum(w[order])
    last = np.append(np.diff(score[order]) != 0, True)
    if not found[-1]:
        return 0.0
    recall = found[last] / found[-1]
    precision = np.divide(found[last], all_[last], out=np.zeros(len(recall)), where=all_[last] > 0)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def macro_auc(truth: Floats, probabilities: Floats, weight: Floats | None = None) -> float:
    """roc_auc; with more than two classes the mean of each class against the rest, over classes that occur."""
    if probabilities.shape[1] == 2:
        return roc_auc(truth == 1, probabilities[:, 1], weight)
    w = np.ones(len(truth)) if weight is None else weight
    seen = [n for n in range(probabilities.shape[1]) if 0 < w[truth == n].sum() < w.sum()]
    areas = [roc_auc(truth == n, probabilities[:, n], weight) for n in seen]
    return float(np.mean(areas)) if areas else 0.5


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
    counts = np.zeros((classes + 1, classes))
    np.add.at(counts, (np.where(truth < 0, classes, truth), decided), w)
    right, support, said = np.diag(counts[:classes]), counts[:classes].sum(1), counts.sum(0)
    recall = np.divide(right, support, out=np.zeros(classes), where=support > 0)
    precision = np.divide(right, said, out=np.zeros(classes), where=said > 0)
    both = support + said
    f1 = np.divide(2 * right, both, out=np.zeros(classes), where=both > 0)
    seen = both > 0
    chosen = slice(1, 2) if classes == 2 else seen
    found = {
        "roc_auc": macro_auc(truth, probabilities, weight),
        "log_loss": log_loss(truth, probabilities, weight),
        "accuracy": float(right.sum() / max(w.sum(), TINY)),
        "f1_macro": float(f1[seen].mean()) if seen.any() else 0.0,
        "precision": float(precision[chosen].mean()),
        "recall": float(recall[chosen].mean()),
    }
    if classes == 2:
        event, score = truth == 1, probabilities[:, 1]
        found |= {
            "average_precision": average_precision(event, score, weight),
            "brier": brier(event, score, weight),
            "calibration_error": calibration_error(event, score, weight),
        }
    else:
        areas = [average_precision(truth == n, probabilities[:, n], weight) for n in range(classes) if support[n] > 0]
        found |= {
            "average_precision": float(np.mean(areas)) if areas else 0.0,
            "calibration_error": calibration_error(truth == decided, probabilities.max(1), weight),
        }
    return found


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


def auc_interval(event: Floats, score: Floats) -> tuple[float, float]:
    """95 % interval of the area under the ROC curve (DeLong et al. 1988)."""
    ours, theirs = score[event], score[~event]
    if not len(ours) or not len(theirs):
        return 0.0, 1.0
    above = _share_below(ours, theirs)
    below = 1.0 - _share_below(theirs, ours)
    area = float(above.mean())
    variance = above.var(ddof=min(1, len(above) - 1)) / len(above) + below.var(ddof=min(1, len(below) - 1)) / len(below)
    half = Z95 * math.sqrt(float(variance))
    return max(0.0, area - half), min(1.0, area + half)


def _share_below(values: Floats, others: Floats) -> Floats:
    """Of each value the share of `others` below it, equal ones counting half."""
    ordered = np.sort(others)
    low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((low + high) / 2 / len(ordered))


def bootstrap(figure: Callable[[Floats], float], rows: int, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a figure of rows (given by their places) over resamples (Efron 1979)."""
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.integers(0, rows, rows)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def curves(event: Floats, score: Floats) -> list[Curve]:
    """The ROC curve, the precision-recall curve, and the reliability picture of two classes."""
    order = np.argsort(-score, kind="stable")
    found, wrong = np.cumsum(event[order]), np.cumsum(~event[order])
    if not len(order) or not found[-1] or not wrong[-1]:
        return []
    at = _thinned(len(order))
    recall, false_alarms = found / found[-1], wrong / wrong[-1]
    roc = [(0.0, 0.0), *zip(false_alarms[at].tolist(), recall[at].tolist(), strict=True)]
    trade = list(zip(recall[at].tolist(), (found / (found + wrong))[at].tolist(), strict=True))
    parts = np.array_split(np.argsort(score, kind="stable"), BINS)
    kept = [(float(score[part].mean()), float(event[part].mean())) for part in parts if len(part)]
    top = max(max(pair) for pair in kept)
    return [
        Curve("ROC", "false alarms", "events found", {"model": roc, "chance": [(0.0, 0.0), (1.0, 1.0)]}),
        Curve("Precision and recall", "events found", "alarms that are events", {"model": trade}),
        Curve("Reliability", "probability", "share of events", {"model": kept, "ideal": [(0.0, 0.0), (top, top)]}),
    ]


def _thinned(rows: int) -> Sequence[int]:
    return sorted({round(place) for place in np.linspace(0, rows - 1, min(rows, POINTS))})
