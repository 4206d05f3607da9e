"""How well scores rank events above other rows: areas under curves with scikit-learn's values, and the curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from llmops.core.intervals import Z95
from llmops.core.report import Curve

Floats = np.ndarray[Any, Any]
POINTS = 100
"""Points of a curve at most, by rows and by events each."""


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
    last = ends_of_ties(score[order])
    if not len(order) or not found[-1]:
        return 0.0
    recall = found[last] / found[-1]
    precision = np.divide(found[last], all_[last], out=np.zeros(len(recall)), where=all_[last] > 0)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def ends_of_ties(ordered: Floats) -> Floats:
    """Whether each of some ordered scores is the last one of its value, bool [rows]: a threshold parts no ties."""
    return np.append(np.diff(ordered) != 0, True)[: len(ordered)]


def macro_auc(truth: Floats, probabilities: Floats, weight: Floats | None = None) -> float:
    """roc_auc; with more than two classes the mean of each class against the rest, over classes that occur."""
    w = np.ones(len(truth)) if weight is None else weight
    return _one_against_the_rest(roc_auc, truth, probabilities, w, lambda rows: 0 < w[rows].sum() < w.sum(), 0.5)


def macro_average_precision(truth: Floats, probabilities: Floats, weight: Floats | None = None) -> float:
    """average_precision, of more than two classes as `macro_auc`."""
    w = np.ones(len(truth)) if weight is None else weight
    return _one_against_the_rest(average_precision, truth, probabilities, w, lambda rows: w[rows].sum() > 0, 0.0)


def _one_against_the_rest(
    figure: Callable[[Floats, Floats, Floats], float],
    truth: Floats,
    probabilities: Floats,
    weight: Floats,
    told: Callable[[Floats], bool],
    nothing: float,
) -> float:
    """Of two classes the figure of the second, of more the mean over those whose rows the figure can be told of."""
    if probabilities.shape[1] == 2:
        return figure(truth == 1, probabilities[:, 1], weight)
    seen = [number for number in range(probabilities.shape[1]) if told(truth == number)]
    found = [figure(truth == number, probabilities[:, number], weight) for number in seen]
    return float(np.mean(found)) if found else nothing


def share_below(scores: Floats, others: Floats) -> Floats:
    """Of each score the share of `others` below it, equal ones counting half; NaN without others."""
    ranked = np.sort(others)
    low, high = (np.searchsorted(ranked, scores, side=side) for side in ("left", "right"))
    return np.asarray((low + high) / (2 * len(ranked)) if len(ranked) else np.full(len(scores), np.nan))


def placements(ours: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Of each of our scores the share of the others' below it, of each of theirs the share of ours above it: float64.
    Either mean is the area under the ROC curve (DeLong et al. 1988)."""
    return share_below(ours, others), 1.0 - share_below(others, ours)


def auc_interval(event: Floats, score: Floats) -> tuple[float, float]:
    """95 % interval of the area under the ROC curve (DeLong et al. 1988); (0, 1) without events or others."""
    ours, others = placements(score[event], score[~event])
    if not len(ours) or not len(others):
        return 0.0, 1.0
    area = float(ours.mean())
    variance = sum(part.var(ddof=min(1, len(part) - 1)) / len(part) for part in (ours, others))
    half = Z95 * math.sqrt(float(variance))
    return max(0.0, area - half), min(1.0, area + half)


def curves(event: Floats, score: Floats) -> list[Curve]:
    """The ROC curve and the precision-recall curve with their areas; none without events or others."""
    order = np.argsort(-score, kind="stable")
    found, wrong = np.cumsum(event[order]), np.cumsum(~event[order])
    if not len(order) or not found[-1] or not wrong[-1]:
        return []
    at = _thinned(found, np.flatnonzero(ends_of_ties(score[order])))
    recall, alarms = (found / found[-1])[at].tolist(), (wrong / wrong[-1])[at].tolist()
    precision = (found / (found + wrong))[at].tolist()
    area, mean, share = roc_auc(event, score), average_precision(event, score), float(event.mean())
    roc = {"model": [(0.0, 0.0), *zip(alarms, recall, strict=True)], "chance": [(0.0, 0.0), (1.0, 1.0)]}
    trade = {"model": list(zip(recall, precision, strict=True)), "chance": [(0.0, share), (1.0, share)]}
    return [
        Curve(f"ROC, area {area:.3f}", "false alarms", "events found", roc),
        Curve(f"Precision and recall, area {mean:.3f}", "events found", "alarms that are events", trade),
    ]


def _thinned(found: Floats, places: Floats) -> Floats:
    """Some of the places that end ties, evenly by rows and evenly by events (`found` counts these up), so that a curve
    of few events among many rows keeps its shape."""
    by_rows = np.linspace(0, len(places) - 1, POINTS).round().astype(int)
    by_events = np.searchsorted(found[places], np.linspace(1, found[-1], POINTS))
    return np.asarray(places[np.unique(np.concatenate([by_rows, by_events]))])
