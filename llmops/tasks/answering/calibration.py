"""When to answer: how likely an entry with a certain score is right, and from which likelihood on to answer.

Nobody writes questions that nothing answers, so they are made: a validation question whose right entries are taken out
of the index has no answer there, and the best score that is left is what such a question looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
STEPS = 100
SHRINK = 1e-3
"""Keeps the slope finite where scores part right from wrong entirely."""


def best_scores(scores: Array, right: Sequence[frozenset[int]]) -> tuple[Array, Array, Array]:
    """Of each row: the best score, whether that entry is right, and the best score without the right entries."""
    best = scores.argmax(1)
    hit = np.array([int(number) in entries for number, entries in zip(best, right, strict=True)], bool)
    without = scores.copy()
    for row, entries in enumerate(right):
        without[row, sorted(entries)] = -np.inf
    return scores.max(1), hit, without.max(1)


def fit_confidence(scores: Array, right: Array) -> tuple[float, float]:
    """(slope, intercept) of the logistic curve with the greatest likelihood (Platt 1999), by Newton's method."""
    if not right.any() or right.all():
        return 1.0, 0.0
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    columns = np.stack([(scores - middle) / spread, np.ones(len(scores))], 1).astype(np.float64)
    weights = np.zeros(2)
    for _ in range(STEPS):
        likely = 1.0 / (1.0 + np.exp(-np.clip(columns @ weights, -30, 30)))
        gradient = columns.T @ (likely - right) + SHRINK * weights
        curvature = (columns * (likely * (1 - likely))[:, None]).T @ columns + SHRINK * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    slope = max(float(weights[0]) / spread, 1e-6)  # a better score never means less confidence
    return slope, float(weights[1]) - slope * middle


def choose_threshold(good: Array, bad: Array) -> float:
    """Halfway between two neighbouring confidences, where the balanced share of right decisions is largest: `good`
    ones are to be answered, `bad` ones to be withheld. 0 when either is missing."""
    if not len(good) or not len(bad):
        return 0.0
    edges = np.unique(np.concatenate([good, bad]))
    cuts = np.concatenate([[0.0], (edges[1:] + edges[:-1]) / 2])
    withheld = np.searchsorted(np.sort(bad), cuts, side="left") / len(bad)
    answered = 1.0 - np.searchsorted(np.sort(good), cuts, side="left") / len(good)
    return float(cuts[int(np.argmax(withheld + answered))])
