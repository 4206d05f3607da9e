"""Metrics with scikit-learn's names and values, in numpy alone. Rows whose true class is -1 are left out."""

from __future__ import annotations

import numpy as np

from llmops.tasks.confusion import by_class, confusion
from llmops.tasks.ranking import macro_auc, macro_average_precision

RANKING = {"roc_auc": macro_auc, "average_precision": macro_average_precision}
"""Figures of probabilities; the others are of the likeliest classes."""


def scores(truth: np.ndarray, answers: np.ndarray, classes: int) -> dict[str, float]:
    """accuracy, f1_macro, f1_weighted and balanced_accuracy of class numbers [rows], and of two classes the recall of
    the second, which is the event; all 0 without rows. Numbers from `classes` on are of classes that nobody knows.

    As in scikit-learn, f1_macro is the mean over classes that occur in truth or answers, balanced_accuracy over
    those in truth.
    """
    counts = confusion(truth, answers, 1 + max(classes - 1, truth.max(initial=0), answers.max(initial=0)))
    total = counts.sum()
    table = by_class(counts)
    support = table["support"]
    seen = (support > 0) | (counts.sum(0) > 0)
    found = {
        "accuracy": float(np.diag(counts).sum() / max(total, 1)),
        "f1_macro": float(table["f1"][seen].mean()) if total else 0.0,
        "f1_weighted": float((table["f1"] * support).sum() / max(total, 1)),
        "balanced_accuracy": float(table["recall"][support > 0].mean()) if total else 0.0,
    }
    return found | ({"recall": float(table["recall"][1])} if classes == 2 else {})


def rankings(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """roc_auc and average_precision of class numbers [rows] and probabilities [rows, classes]: of two classes those of
    the second, of more the mean of each class against the rest, over classes that occur."""
    inside = truth >= 0
    return {name: figure(truth[inside], probabilities[inside]) for name, figure in RANKING.items()}


def figures(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """`scores` of the likeliest classes, and `rankings`."""
    answers = probabilities.argmax(axis=1)
    return scores(truth, answers, probabilities.shape[1]) | rankings(truth, probabilities)
