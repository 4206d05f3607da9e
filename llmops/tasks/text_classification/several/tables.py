"""The tables of a report on several labels: each label, the commonest mistakes, what goes together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from llmops.core.intervals import f1_interval, told, told_share
from llmops.core.report import Number, Table
from llmops.tasks.ranking import average_precision
from llmops.tasks.text_classification.several.metrics import counts, f1

Array = np.ndarray[Any, Any]
SHOWN = 10
MANY = 5
"""Rows with so many labels or more stand in one line."""
NOTHING = "-"


def by_label(labels: Sequence[str], truth: Array, given: Array, scores: Array, cuts: Sequence[float]) -> Table:
    """Each label's precision, recall and F1 with their 95 % intervals (Wilson's; of F1 see `f1_interval`), its average
    precision, its rows and its threshold; the worst F1 first."""
    found = counts(truth, given)
    order = np.argsort(f1(found), kind="stable").tolist()
    areas = [average_precision(truth[:, at], scores[:, at]) for at in range(len(labels))]
    lines: list[list[Number]] = []
    for at in order:
        right, answered, support = found[:, at].tolist()
        whole = told(float(f1(found[:, at])), *f1_interval(right, answered, support))
        area = areas[at] if support else None
        precision, recall = (told_share(right, of) for of in (answered, support))
        lines.append([labels[at], support, precision, recall, whole, area, cuts[at]])
    columns = ["label", "rows", "precision", "recall", "F1", "average precision", "threshold"]
    return Table("By label, with 95 % intervals, the worst first", columns, lines)


def mistakes(labels: Sequence[str], truth: Array, given: Array) -> Table:
    """The commonest pairs of a label that a row lacks and one that it has too many; alone, where there is no other."""
    pairs: Counter[tuple[str, str]] = Counter()
    for true, said in zip(truth, given, strict=True):
        missed = [labels[at] for at in np.flatnonzero(true & ~said).tolist()] or [NOTHING]
        added = [labels[at] for at in np.flatnonzero(said & ~true).tolist()] or [NOTHING]
        pairs.update((one, other) for one in missed for other in added)
    pairs.pop((NOTHING, NOTHING), None)
    lines: list[list[Number]] = [[*pair, count] for pair, count in pairs.most_common(SHOWN)]
    return Table("Commonest mistakes", ["label missed", "label too many", "rows"], lines)


def together(labels: Sequence[str], truth: Array, given: Array) -> Table:
    """The pairs of labels that rows have most often: how many rows have both, get both, and get both rightly."""
    true, said = (_pairs(matrix) for matrix in (truth, given))
    both = _pairs(truth & given)
    order = sorted(combinations(range(len(labels)), 2), key=lambda pair: (-true[pair], pair))[:SHOWN]
    lines: list[list[Number]] = [
        [labels[one], labels[other], int(true[one, other]), int(said[one, other]), int(both[one, other])]
        for one, other in order
        if true[one, other]
    ]
    return Table("Labels that go together", ["label", "and", "rows", "both given", "both rightly"], lines)


def _pairs(matrix: Array) -> Array:
    wide = matrix.astype(np.int64)
    found: Array = wide.T @ wide
    return found


def by_number(truth: Array, given: Array) -> Table:
    """How rows fare by how many labels they have."""
    numbers = np.minimum(truth.sum(1), MANY)
    lines: list[list[Number]] = []
    for number in np.unique(numbers):
        here = numbers == number
        exact = (truth[here] == given[here]).all(1).mean()
        name = f"{number} or more" if number == MANY else str(number)
        lines.append([name, int(here.sum()), float(given[here].sum(1).mean()), float(exact)])
    return Table("By number of labels", ["labels", "rows", "given on average", "exactly right"], lines)
