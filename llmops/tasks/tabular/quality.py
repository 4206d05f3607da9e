"""What raw answers are worth: figures of the task, whoever gave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmops.tasks.tabular.calibration import apply
from llmops.tasks.tabular.metrics import of_classes, of_numbers
from llmops.tasks.tabular.settle import expected_cost, interval

Floats = np.ndarray[Any, Any]


def decided(probabilities: Floats, threshold: float | None) -> Floats:
    """Class numbers [rows]: the likeliest of many, of two the event from the threshold on."""
    if threshold is None or probabilities.shape[1] != 2:
        return np.asarray(probabilities.argmax(axis=1))
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def figures(
    section: Any, settled: Mapping[str, Any], raw: Floats, truth: Floats, weight: Floats | None = None
) -> dict[str, float]:
    """All figures of raw answers [rows, outputs]; `settled` as settle.settle gives it, `section` the task's."""
    if "interval" in settled:
        bounds = interval(raw[:, 0], settled["interval"])
        inside = (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
        width = float(np.mean(bounds[:, 1] - bounds[:, 0]))
        covered = float(np.average(inside, weights=weight))
        return {**of_numbers(truth, raw[:, 0], weight), "interval_coverage": covered, "interval_width": width}
    probabilities = apply(raw, settled["calibration"])
    return of_decisions(section, probabilities, decided(probabilities, settled["threshold"]), truth, weight)


def of_decisions(
    section: Any, probabilities: Floats, said: Floats, truth: Floats, weight: Floats | None = None
) -> dict[str, float]:
    """All figures of probabilities [rows, classes] and of the classes [rows] that were decided by them."""
    found = of_classes(truth, probabilities, said, weight)
    costs = getattr(section, "costs", None)
    if costs is not None and probabilities.shape[1] == 2:
        found["expected_cost"] = expected_cost(truth == 1, said == 1, costs, weight)
    return found


def unsettled(classes: int) -> dict[str, Any]:
    """What stands for `settle`'s findings where nothing was settled: raw answers are taken at their word."""
    if not classes:
        return {"interval": {"at": [0.0], "spread": [0.0], "factor": 1.0, "coverage": 0.0}}
    if classes > 2:
        return {"calibration": {"method": "temperature", "temperature": 1.0}, "threshold": None}
    return {"calibration": {"method": "platt", "slope": 1.0, "intercept": 0.0}, "threshold": 0.5}
