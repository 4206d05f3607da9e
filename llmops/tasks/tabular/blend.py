"""How much each kind of model counts in the blend: by how good the average is on rows that none of them saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Floats = np.ndarray[Any, Any]
PICKS = 20
"""Steps of the greedy selection: weights are multiples of one in so many, and of the even start."""
DOUBT = 2_000
"""Rows at which the selection counts as much as an even average, which is hard to beat where rows are few (the forecast
combination puzzle; Claeskens et al. 2016)."""
DECENT = 1.05
"""Times the best kind's loss that a kind may have to be in that average."""


def chosen_weights(answers: Mapping[str, Floats], truth: Floats, weight: Floats, classes: int) -> dict[str, float]:
    """Greedy ensemble selection (Caruana et al. 2004) on raw answers [rows, outputs] of each kind, begun with one of
    each, drawn towards an even average of those that are nearly as good where rows are few."""
    kinds = list(answers)
    total = np.sum([answers[kind] for kind in kinds], axis=0)
    counts = dict.fromkeys(kinds, 1)
    best = (loss(total / len(kinds), truth, weight, classes), dict(counts))
    for picked in range(len(kinds) + 1, len(kinds) + PICKS):
        scored = {kind: loss((total + answers[kind]) / picked, truth, weight, classes) for kind in kinds}
        taken = min(scored, key=lambda kind: scored[kind])
        total = total + answers[taken]
        counts[taken] += 1
        if scored[taken] < best[0]:
            best = (scored[taken], dict(counts))
    alone = {kind: loss(answers[kind], truth, weight, classes) for kind in kinds}
    for kind in kinds:
        if alone[kind] < best[0]:
            best = (alone[kind], {kind: 1})
    decent = [kind for kind in kinds if alone[kind] <= DECENT * min(alone.values())]
    every = sum(best[1].values())
    trust = len(truth) / (len(truth) + DOUBT)
    return {kind: trust * best[1].get(kind, 0) / every + (1 - trust) * (kind in decent) / len(decent) for kind in kinds}


def loss(raw: Floats, truth: Floats, weight: Floats, classes: int) -> float:
    """Log loss of raw answers, or the mean squared error of numbers."""
    if not classes:
        return float(np.average((raw[:, 0] - truth) ** 2, weights=weight))
    if classes == 2:
        signed = np.where(truth == 1, raw[:, 0], -raw[:, 0])
        return float(np.average(np.logaddexp(0.0, -signed), weights=weight))
    highest = raw.max(axis=1, keepdims=True)
    logs = raw - highest - np.log(np.exp(raw - highest).sum(axis=1, keepdims=True))
    return float(np.average(-logs[np.arange(len(truth)), truth], weights=weight))
