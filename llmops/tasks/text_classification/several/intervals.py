"""95 % intervals of the metrics of several labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llmops.core.intervals import wilson
from llmops.tasks.bootstrap import MOST_CELLS, MOST_DRAWN, bootstrap
from llmops.tasks.text_classification.several.metrics import average_precision, counts, decided

Array = np.ndarray[Any, Any]


def intervals(truth: Array, given: Array, scores: Array) -> dict[str, tuple[float, float]]:
    """Of f1_micro, f1_macro and average_precision by drawing whole rows again and again (the bootstrap); of
    subset_accuracy, which is a share of rows, Wilson's. The same rows give the same intervals. Of very many rows and
    labels the former have none: that would take minutes."""
    drawn: dict[str, Callable[[Array], float]] = {
        "f1_micro": lambda rows: decided(counts(truth[rows], given[rows]))["f1_micro"],
        "f1_macro": lambda rows: decided(counts(truth[rows], given[rows]))["f1_macro"],
        "average_precision": lambda rows: average_precision(truth[rows], scores[rows]),
    }
    exact = wilson(float((truth == given).all(1).mean()), len(truth))
    if truth.size > MOST_CELLS or len(truth) > MOST_DRAWN:
        return {"subset_accuracy": exact}
    return {**{name: bootstrap(figure, len(truth)) for name, figure in drawn.items()}, "subset_accuracy": exact}
