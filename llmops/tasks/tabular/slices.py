"""Figures told apart by the values of a column (sex, age), and how far they lie apart: fairness, as gates see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.intervals import Z95, told, told_share
from llmops.core.report import Number, Table
from llmops.fields.kind import Kind
from llmops.tasks.ranking import auc_interval, roc_auc
from llmops.tasks.tabular.metrics import calibration_error

Floats = np.ndarray[Any, Any]
FEWEST = 30
"""Rows that a group needs to be told; with fewer events (or others) than this its rates do not count for gaps."""
GROUPS = 12
BANDS = 4


@dataclass(frozen=True)
class Group:
    """Rows that share a value of a column."""

    name: str
    rows: Floats


def groups_of(kind: Kind, column: Floats) -> list[Group]:
    """The groups of a column with enough rows: its commonest values, or bands of a number; missing ones apart."""
    if kind.numeric:
        there = ~np.isnan(column)
        found = _bands(column, there) if len(np.unique(column[there])) > BANDS else _values(column, there)
    else:
        there = np.array([value is not None for value in column], bool)
        found = _values(column, there)
    found.append(Group("(missing)", np.flatnonzero(~there)))
    return [group for group in found if len(group.rows) >= FEWEST][:GROUPS]


def _values(column: Floats, there: Floats) -> list[Group]:
    values, counts = np.unique(column[there].astype(str), return_counts=True)
    told = np.where(there, column.astype(str), "")
    order = np.argsort(-counts, kind="stable")
    return [Group(str(value), np.flatnonzero(there & (told == value))) for value in values[order]]


def _bands(column: Floats, there: Floats) -> list[Group]:
    edges = np.unique(np.quantile(column[there], np.linspace(0, 1, BANDS + 1)))
    band = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, len(edges) - 2)
    return [
        Group(f"{edges[n]:g} to {edges[n + 1]:g}", np.flatnonzero(there & (band == n))) for n in range(len(edges) - 1)
    ]


def of_events(name: str, groups: Sequence[Group], event: Floats, score: Floats, alarm: Floats) -> Table:
    """Every figure of two classes by group, with intervals."""
    rows: list[list[Number]] = []
    for group in groups:
        mine = group.rows
        happened, said, found = event[mine], score[mine], alarm[mine]
        low, high = auc_interval(happened, said)
        rows.append([
            group.name, len(mine), round(float(happened.mean()), 4), told(roc_auc(happened, said), low, high),
            share(found[happened]), share(found[~happened]), share(found), round(calibration_error(happened, said), 4),
        ])  # fmt: skip
    columns = [name, "rows", "events", "ROC AUC", "events found", "false alarms", "alarms", "calibration error"]
    return Table(f"By {name} (95 % intervals)", columns, rows)


def of_classes(name: str, groups: Sequence[Group], right: Floats) -> Table:
    """The share decided right by group."""
    rows: list[list[Number]] = [[group.name, len(group.rows), share(right[group.rows])] for group in groups]
    return Table(f"By {name} (95 % intervals)", [name, "rows", "decided right"], rows)


def of_numbers(name: str, groups: Sequence[Group], error: Floats, inside: Floats) -> Table:
    """Mean size and lean of errors by group, and how often the interval held."""
    rows: list[list[Number]] = []
    for group in groups:
        mine = np.abs(error[group.rows])
        half = Z95 * float(mine.std(ddof=1)) / len(mine) ** 0.5
        mean = float(mine.mean())
        lean = float(error[group.rows].mean())
        rows.append(
            [group.name, len(mine), told(mean, mean - half, mean + half), f"{lean:.4g}", share(inside[group.rows])]
        )
    return Table(f"By {name} (95 % intervals)", [name, "rows", "mean error", "lean", "in the interval"], rows)


def gaps(groups: Mapping[str, Sequence[Group]], event: Floats, alarm: Floats) -> dict[str, Number]:
    """The largest differences between groups of a column; None where fewer than two groups have enough rows."""
    found = [[alarm[g.rows][event[g.rows]] for g in some] for some in groups.values()]
    chosen = [[alarm[g.rows] for g in some] for some in groups.values()]
    return {"true_positive_rate_gap": _widest(found), "selection_rate_gap": _widest(chosen)}


def _widest(columns: Sequence[Sequence[Floats]]) -> float | None:
    rates = [[float(part.mean()) for part in parts if len(part) >= FEWEST] for parts in columns]
    spans = [max(known) - min(known) for known in rates if len(known) > 1]
    return max(spans, default=None)


def share(hits: Floats) -> str:
    """A share with its interval; a dash without rows."""
    return told_share(int(hits.sum()), len(hits)) or "-"
