"""What is settled on answers to rows that the model never saw: probabilities, the threshold by costs, the interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmops.core.accept import CostsSection
from llmops.tasks.tabular.calibration import apply, fit_calibration

Floats = np.ndarray[Any, Any]
BANDS = 20
FEWEST = 50
"""Rows of a band of answers in which the size of errors is told."""


def settle(section: Any, raw: Floats, truth: Floats, weight: Floats, classes: int) -> dict[str, Any]:
    """{"calibration", "threshold"} for classes, {"interval"} for a number; `section` is the task's.

    raw float64 [rows, outputs], truth and weight [rows].
    """
    if not classes:
        return {"interval": fit_interval(raw[:, 0], truth, section.coverage)}
    calibration = fit_calibration(raw, truth, weight, classes)
    if classes > 2:
        return {"calibration": calibration, "threshold": None}
    score = apply(raw, calibration)[:, 1]
    return {
        "calibration": calibration,
        "threshold": threshold(score, truth == 1, weight, getattr(section, "costs", None)),
    }


def threshold(score: Floats, event: Floats, weight: Floats, costs: CostsSection | None) -> float:
    """The probability from which a row counts as an event: where the mean cost on these rows is least, 0.5 without
    costs. Where many thresholds cost the same, the middle of them."""
    if costs is None:
        return 0.5
    edges = np.unique(score)
    cuts = np.concatenate([[0.0], (edges[1:] + edges[:-1]) / 2, [1.0]])
    order = np.argsort(score, kind="stable")
    w, hit = weight[order].astype(float), event[order]
    at = np.searchsorted(score[order], cuts, side="left")  # rows below each cut are let pass
    missed = np.concatenate([[0.0], np.cumsum(w * hit)])[at]
    alarms = (w * ~hit).sum() - np.concatenate([[0.0], np.cumsum(w * ~hit)])[at]
    total = costs.missed * missed + costs.alarm * alarms
    # Smoothed by what honest probabilities promise: the best cut of few rows follows chance.
    promised = costs.alarm / (costs.alarm + costs.missed)
    best = cuts[np.flatnonzero(total <= total.min() * (1 + 1e-9))]
    rough = float(np.median(best))
    events = float(hit.sum())
    trust = events / (events + 200.0)
    return float(trust * rough + (1 - trust) * promised)


def expected_cost(event: Floats, alarm: Floats, costs: CostsSection, weight: Floats | None = None) -> float:
    """Mean cost of decisions; `alarm` says which rows count as events."""
    each = np.where(event & ~alarm, costs.missed, 0.0) + np.where(~event & alarm, costs.alarm, 0.0)
    return float(np.average(each, weights=weight))


def fit_interval(said: Floats, truth: Floats, coverage: float) -> dict[str, Any]:
    """A split-conformal interval (Lei et al. 2018) whose width follows the answer: errors are measured in units of the
    mean error among rows with such an answer."""
    error = np.abs(truth - said)
    parts = np.array_split(np.argsort(said, kind="stable"), max(1, min(BANDS, len(said) // FEWEST)))
    at = [float(said[part].mean()) for part in parts]
    spread = [max(float(error[part].mean()), 1e-12) for part in parts]
    units = error / np.interp(said, at, spread)
    rank = min(len(units), int(np.ceil((len(units) + 1) * coverage)))
    return {"at": at, "spread": spread, "factor": float(np.sort(units)[rank - 1]), "coverage": coverage}


def interval(said: Floats, fitted: Mapping[str, Any]) -> Floats:
    """float64 [rows, 2]: low and high of each answer."""
    half = fitted["factor"] * np.interp(said, fitted["at"], fitted["spread"])
    return np.stack([said - half, said + half], axis=1)
