"""Raw answers to honest probabilities: Platt scaling or isotonic regression for two classes, temperature for more."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from llmops.tasks.tabular.metrics import log_loss

Floats = np.ndarray[Any, Any]
FOLDS = 5
ENOUGH = 1000
"""Rows of the rarer class below which isotonic regression follows chance (Niculescu-Mizil and Caruana 2005)."""
STEPS = 50
NEAR = 1e-9
"""Steps of Newton's method that move no further than this are the last."""
FLOOR = 1e-4
"""No isotonic probability is nearer to 0 or 1 than half a row in as many as it was fitted on, nor than this."""
KNOTS = 200


def fit_calibration(raw: Floats, truth: Floats, weight: Floats, classes: int) -> dict[str, Any]:
    """What `apply` needs, fitted on raw answers [rows, outputs] to rows that the model never saw. Of two classes the
    better of Platt scaling (Platt 1999) and isotonic regression (Zadrozny and Elkan 2002) by cross-validated log loss.
    """
    known = truth >= 0
    raw, truth, weight = raw[known], truth[known], weight[known].astype(float)
    if classes > 2:
        return {"method": "temperature", "temperature": _temperature(raw, truth, weight)}
    event = truth == 1
    if not event.any() or event.all():
        return {"method": "platt", "slope": 1.0, "intercept": 0.0}
    platt = _platt(raw[:, 0], event, weight)
    if min(event.sum(), (~event).sum()) < ENOUGH:
        return platt
    found = {
        "platt": _cross_validated(_platt, raw, event, weight),
        "isotonic": _cross_validated(_isotonic, raw, event, weight),
    }
    return platt if found["platt"] <= found["isotonic"] else _isotonic(raw[:, 0], event, weight)


def apply(raw: Floats, calibration: Mapping[str, Any]) -> Floats:
    """Probabilities float64 [rows, classes] of raw answers [rows, outputs]."""
    method = calibration["method"]
    if method == "temperature":
        scaled = raw / calibration["temperature"]
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if method == "platt":
        score = 1.0 / (1.0 + np.exp(-np.clip(calibration["slope"] * raw[:, 0] + calibration["intercept"], -500, 500)))
    else:
        score = np.interp(raw[:, 0], calibration["raw"], calibration["probability"])
    return np.stack([1.0 - score, score], axis=1)


def _platt(raw: Floats, event: Floats, weight: Floats) -> dict[str, Any]:
    """Slope and intercept with the greatest likelihood, by Newton's method; targets are drawn in a little, as Platt
    does, so that a perfect separation stays finite. A step that makes things worse is halved: far from the best, the
    curvature points too far (Lin, Lin and Weng 2007)."""
    events, others = float(weight[event].sum()), float(weight[~event].sum())
    target = np.where(event, (events + 1) / (events + 2), 1 / (others + 2))
    columns = np.stack([raw, np.ones(len(raw))], axis=1)

    def loss(at: Floats) -> float:
        score = columns @ at
        return float((weight * (np.logaddexp(0.0, score) - target * score)).sum())

    at = np.array([0.0, np.log((events + 1) / (others + 1))])
    reached = loss(at)
    for _ in range(STEPS):
        likely = 1.0 / (1.0 + np.exp(-np.clip(columns @ at, -500, 500)))
        gradient = columns.T @ (weight * (likely - target))
        curvature = (columns * (weight * likely * (1 - likely))[:, None]).T @ columns + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (found := loss(at - step)) > reached and np.abs(step).max() > NEAR:
            step = step / 2
        if np.abs(step).max() <= NEAR:
            break
        at, reached = at - step, found
    return {"method": "platt", "slope": max(float(at[0]), 1e-6), "intercept": float(at[1])}


def _isotonic(raw: Floats, event: Floats, weight: Floats) -> dict[str, Any]:
    """The rising steps nearest to the outcomes, joined by lines from middle to middle, so that a higher raw answer is
    always a higher probability."""
    from sklearn.isotonic import IsotonicRegression

    floor = max(FLOOR, 0.5 / len(raw))
    steps = IsotonicRegression(y_min=floor, y_max=1 - floor, out_of_bounds="clip")
    fitted = steps.fit(raw, event.astype(float), sample_weight=weight).predict(raw)
    order = np.argsort(raw, kind="stable")
    values, first = np.unique(fitted[order], return_index=True)
    bounds = [*first, len(order)]
    middles = [float(np.mean(raw[order][a:b])) for a, b in itertools.pairwise(bounds)]
    ends = [
        (float(raw.min()), float(values[0])),
        *zip(middles, map(float, values), strict=True),
        (float(raw.max()), float(values[-1])),
    ]
    kept = [*ends[:: max(1, len(ends) // KNOTS)], ends[-1]]
    xs, ys = _rising(kept)
    return {"method": "isotonic", "raw": xs, "probability": ys}


def _rising(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Points with rising x and, by a hair, rising y."""
    xs: list[float] = []
    ys: list[float] = []
    for x, y in sorted(points):
        if xs and x <= xs[-1]:
            continue
        xs.append(x)
        ys.append(max(y, ys[-1] + 1e-9) if ys else y)
    return xs, ys


def _cross_validated(fit: Any, raw: Floats, event: Floats, weight: Floats) -> float:
    fold = np.random.default_rng(0).permutation(len(raw)) % FOLDS
    losses = []
    for part in range(FOLDS):
        out, rest = fold == part, fold != part
        found = apply(raw[out], fit(raw[rest, 0], event[rest], weight[rest]))
        losses.append(log_loss(event[out].astype(int), found, weight[out]))
    return float(np.mean(losses))


def _temperature(raw: Floats, truth: Floats, weight: Floats) -> float:
    """Guo et al. 2017."""
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        return log_loss(truth, apply(raw, {"method": "temperature", "temperature": float(np.exp(log))}), weight)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))
