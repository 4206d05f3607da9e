"""How good answers of several labels turned out to be: whole answers right, and labels that users added or took out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from llmops.core.intervals import Z95, wilson
from llmops.core.protocols import Judged
from llmops.fields.labelsets import labels_of
from llmops.stages.feedback.estimate import Estimate


def figures(judged: Sequence[Judged]) -> dict[str, Estimate]:
    """subset_accuracy: the share of answers whose labels are all right and complete, of those that somebody spoke
    about. f1_micro: over the labels of those of which the right ones are known."""
    told = [truth_of(row) == given(row) for row in judged]
    if not told:
        return {}
    share = sum(told) / len(told)
    return {"subset_accuracy": Estimate(share, *wilson(share, len(told))), **_f1(judged)}


def given(row: Judged) -> set[str]:
    """The labels that were answered."""
    return set(labels_of(row.label))


def truth_of(row: Judged) -> set[str] | None:
    """The right labels: the correction's, or those of an answer that was liked; None where nobody told."""
    if row.correction is not None:
        return set(labels_of(row.correction))
    return given(row) if row.rating == 1 else None


def corrected(judged: Sequence[Judged]) -> list[tuple[str, int, int]]:
    """(label, how often users added it, how often they took it out), the most corrected first."""
    added, removed = Counter[str](), Counter[str]()
    for row in judged:
        truth = truth_of(row)
        if truth is not None:
            added.update(truth - given(row))
            removed.update(given(row) - truth)
    changed = sorted(added | removed, key=lambda label: (-added[label] - removed[label], label))
    return [(label, added[label], removed[label]) for label in changed]


def _f1(judged: Sequence[Judged]) -> dict[str, Estimate]:
    """The micro F1: twice the labels answered rightly over those answered and those that are right. A ratio of two sums
    over rows, whose error is that of a ratio estimator (Cochran 1977, chapter 6): labels of one row hang together."""
    known = [(truth, given(row)) for row in judged if (truth := truth_of(row)) is not None]
    hits = np.array([2 * len(truth & said) for truth, said in known], float)
    every = np.array([len(truth) + len(said) for truth, said in known], float)
    if not every.sum():
        return {}
    value = float(hits.sum() / every.sum())
    if len(known) < 2:
        return {"f1_micro": Estimate(value, None, None)}
    spread = float(((hits - value * every) ** 2).sum()) * len(known) / (len(known) - 1)
    margin = Z95 * math.sqrt(spread) / float(every.sum())
    return {"f1_micro": Estimate(value, max(0.0, value - margin), min(1.0, value + margin))}
