"""Which columns matter: how much worse the metric gets when a column's values are shuffled among held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llmops.core.report import Number, Table
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import TabularSection
from llmops.tasks.tabular.quality import figures, unsettled

Floats = np.ndarray[Any, Any]
MOST = 2_000
"""Rows that are shuffled, evenly spread."""
TIMES = 3
SHOWN = 20


def importance(
    section: TabularSection, raw: Callable[[Floats], Floats], rows: Arrays, names: Sequence[str], column_of: Floats,
    classes: int,
) -> Table:  # fmt: skip
    """Permutation importance (Breiman 2001), the mean of three shuffles; `raw` answers features, `column_of` [features]
    says which of the columns `names` each is made of."""
    some = rows.take(np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(np.int64))
    rng = np.random.default_rng(0)
    whole = _metric(section, raw(some.x), some, classes)
    lost = []
    for number in range(len(names)):
        mine = column_of == number
        told = []
        for _ in range(TIMES):
            x = some.x.copy()
            x[:, mine] = x[rng.permutation(len(x))][:, mine]
            told.append(whole - _metric(section, raw(x), some, classes))
        lost.append((float(np.mean(told)), float(np.std(told))))
    order = sorted(range(len(names)), key=lambda number: -lost[number][0])[:SHOWN]
    cells: list[list[Number]] = [[names[n], float(f"{lost[n][0]:.3g}"), float(f"{lost[n][1]:.2g}")] for n in order]
    return Table(
        f"What shuffling a column costs in {section.metric_name} (on {len(some):,} held-out rows)",
        ["column", "worse by", "+-"],
        cells,
    )


def _metric(section: TabularSection, raw: Floats, rows: Arrays, classes: int) -> float:
    """The metric, greater is better."""
    found = figures(section, unsettled(classes), raw, rows.y, rows.weight)[section.metric_name]
    return found if section.metric_higher else -found
