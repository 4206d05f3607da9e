"""How often each class was answered where each was true, and what follows by class: precision, recall, F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmops.core.intervals import f1_interval, told, told_share
from llmops.core.report import Grid, Number, Table

Counts = np.ndarray[Any, Any]
MOST_SHOWN = 50
"""Classes up to which there is a picture."""


def confusion(truth: Counts, answers: Counts, classes: int, weight: Counts | None = None) -> Counts:
    """Rows, or what they weigh, by [true class, answered class]: [classes, classes]. Rows whose true class is below 0
    are left out."""
    inside = truth >= 0
    flat = truth[inside].astype(np.int64) * classes + answers[inside]
    weights = None if weight is None else weight[inside].astype(float)
    return np.bincount(flat, weights, minlength=classes * classes).reshape(classes, classes)


def by_class(counts: Counts) -> dict[str, Counts]:
    """precision, recall, f1, support of each class; 0 where there is nothing to divide by, as in scikit-learn."""
    right, support, answered = np.diag(counts), counts.sum(1), counts.sum(0)
    return {
        "precision": divide(right, answered),
        "recall": divide(right, support),
        "f1": divide(2 * right, support + answered),
        "support": support,
    }


def divide(above: Counts, below: Counts) -> Counts:
    """Elementwise quotient, float64; 0 where the divisor is 0."""
    top, under = np.asarray(above, np.float64), np.asarray(below, np.float64)
    made: Counts = np.divide(top, under, out=np.zeros(np.broadcast(top, under).shape), where=under != 0)
    return made


def class_table(counts: Counts, labels: Sequence[str]) -> Table:
    """Each class with its precision and recall (Wilson intervals), F1 (core.intervals.f1_interval) and rows; the
    worst F1 first, classes of which these rows tell nothing last."""
    f1, told_of = by_class(counts)["f1"], counts.sum(0) + counts.sum(1) > 0
    order = np.lexsort((f1, ~told_of))
    columns = ["class", "precision", "recall", "F1", "rows"]
    return Table(
        "By class, the worst F1 first (95 % intervals)",
        columns,
        [_line(counts, labels[number], int(number)) for number in order],
    )


def _line(counts: Counts, label: str, number: int) -> list[Number]:
    right, support, answered = (int(n) for n in (counts[number, number], counts[number].sum(), counts[:, number].sum()))
    both, interval = support + answered, f1_interval(right, answered, support)
    f1 = told(2 * right / both, *interval, ".3f") if both else None
    precision, recall = (told_share(right, of, ".3f") for of in (answered, support))
    return [label, precision, recall, f1, support]


def confused_pairs(counts: Counts, labels: Sequence[str], top: int) -> list[list[Number]]:
    """Rows [true label, answered label, count] of the commonest mistakes."""
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:top]
    pairs = [divmod(int(flat), len(labels)) for flat in order]
    return [[labels[i], labels[j], int(mistakes[i, j])] for i, j in pairs if mistakes[i, j]]


def picture(counts: Counts, labels: Sequence[str]) -> list[Grid]:
    """The counts as a picture; none for more than 50 classes, and without rows."""
    if len(labels) > MOST_SHOWN or not counts.sum():
        return []
    return [Grid("Which class was answered for which", "true", "answered", list(labels), counts.astype(int).tolist())]
