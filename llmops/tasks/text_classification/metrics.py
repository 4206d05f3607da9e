"""Metrics with scikit-learn's names and values, in numpy alone. Rows whose true class is -1 are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmops.core.report import Number


def confusion(truth: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """Counts [true class, answered class], int64 [classes, classes]."""
    inside = truth >= 0
    flat = truth[inside].astype(np.int64) * classes + answers[inside]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Elementwise quotient; 0 where the divisor is 0."""
    quotient: np.ndarray = np.divide(above, below, out=np.zeros(len(above)), where=below != 0)
    return quotient


def by_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """precision, recall, f1, support of each class, from a confusion matrix."""
    right, support, answered = np.diag(counts), counts.sum(1), counts.sum(0)
    return {
        "precision": divide(right, answered),
        "recall": divide(right, support),
        "f1": divide(2 * right, support + answered),
        "support": support,
    }


def scores(truth: np.ndarray, answers: np.ndarray, classes: int) -> dict[str, float]:
    """accuracy, f1_macro, f1_weighted and balanced_accuracy of class numbers [rows]; all 0 without rows.

    As in scikit-learn, f1_macro is the mean over classes that occur in truth or answers, balanced_accuracy over
    those in truth.
    """
    counts = confusion(truth, answers, classes)
    total = counts.sum()
    if not total:
        return dict.fromkeys(("accuracy", "f1_macro", "f1_weighted", "balanced_accuracy"), 0.0)
    table = by_class(counts)
    support = table["support"]
    seen = (support > 0) | (counts.sum(0) > 0)
    return {
        "accuracy": float(np.diag(counts).sum() / total),
        "f1_macro": float(table["f1"][seen].mean()),
        "f1_weighted": float((table["f1"] * support).sum() / total),
        "balanced_accuracy": float(table["recall"][support > 0].mean()),
    }


def class_table(truth: np.ndarray, answers: np.ndarray, labels: Sequence[str]) -> list[list[Number]]:
    """Rows [label, precision, recall, f1, support] for a report's table, worst f1 first."""
    table = by_class(confusion(truth, answers, len(labels)))
    order = np.argsort(table["f1"], kind="stable")
    return [
        [
            labels[i],
            float(table["precision"][i]),
            float(table["recall"][i]),
            float(table["f1"][i]),
            int(table["support"][i]),
        ]
        for i in order
    ]


def confused_pairs(truth: np.ndarray, answers: np.ndarray, labels: Sequence[str], top: int = 10) -> list[list[Number]]:
    """Rows [true label, answered label, count] of the commonest mistakes."""
    counts = confusion(truth, answers, len(labels))
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:top]
    pairs = [divmod(int(flat), len(labels)) for flat in order]
    return [[labels[i], labels[j], int(counts[i, j])] for i, j in pairs if counts[i, j]]
