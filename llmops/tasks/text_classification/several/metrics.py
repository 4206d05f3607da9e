"""Metrics of several labels with scikit-learn's names and values, in numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmops.tasks import ranking
from llmops.tasks.confusion import divide

Array = np.ndarray[Any, Any]
FIGURES = ("f1_micro", "f1_macro", "subset_accuracy", "average_precision", "hamming_loss")


def figures(truth: Array, given: Array, scores: Array) -> dict[str, float]:
    """f1_micro, f1_macro, subset_accuracy, average_precision and hamming_loss of labels given, bool [rows, labels], and
    of scores [rows, labels], of which more is likelier; all 0 without rows. `truth` bool or 0 and 1 [rows, labels].

    f1_macro is the mean over labels that occur in the truth or are given, average_precision (the area under the
    precision-recall curve, summed stepwise) the mean over labels that occur in the truth.
    """
    if not len(truth):
        return dict.fromkeys(FIGURES, 0.0)
    truth = truth.astype(bool)
    return {
        **decided(counts(truth, given)),
        **alike(truth, given),
        "average_precision": average_precision(truth, scores),
    }


def counts(truth: Array, given: Array) -> Array:
    """Of each label how often it is given rightly, how often given, how often true: int64 [3, labels]."""
    found: Array = np.stack([(truth & given).sum(0), given.sum(0), truth.sum(0)]).astype(np.int64)
    return found


def decided(found: Array) -> dict[str, float]:
    """f1_micro and f1_macro of `counts`."""
    seen = found[1] + found[2] > 0
    each = f1(found)[seen]
    return {"f1_micro": float(f1(found.sum(1))), "f1_macro": float(each.mean()) if len(each) else 0.0}


def f1(found: Array) -> Array:
    """F1 of counts [3, ..]: twice what is given rightly, by what is given and what is true; 0 for 0 / 0."""
    return divide(2.0 * found[0], found[1] + found[2])


def alike(truth: Array, given: Array) -> dict[str, float]:
    """subset_accuracy (share of rows with exactly the right labels; scikit-learn's accuracy_score) and hamming_loss
    (share of all decisions that are wrong)."""
    wrong = truth != given
    return {"subset_accuracy": float((~wrong.any(1)).mean()), "hamming_loss": float(wrong.mean())}


def average_precision(truth: Array, scores: Array) -> float:
    """Mean over the labels that occur in the truth of the area under each one's precision-recall curve; 0 when none
    does."""
    seen = np.flatnonzero(truth.any(0))
    areas = [ranking.average_precision(truth[:, at], scores[:, at]) for at in seen]
    return float(np.mean(areas)) if areas else 0.0
