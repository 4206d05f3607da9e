"""Which columns of an unknown table hold the labels: one a cell, lists, several joined in a cell, or each label in a
column of its own, by yes and no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmops.core.protocols import Row
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import BadCell
from llmops.fields.labelsets import labels_of, tidy, written_list
from llmops.records.joinedlabels import Joined, find_joined
from llmops.records.profile import LABEL_NAMES, Column, label_columns

FLAG = kind_of(FieldSection(kind="flag"))
SIGNS = 4
"""Different ways of writing yes and no in a column, at most."""
SAID = 0.95
"""Share of filled cells that say yes or no, from which a column does; the other rows are bad ones."""
LISTS = 0.5
"""Share of filled cells that are lists, from which a column holds lists."""
FEWEST_FLAGS = 2

How = Literal["one", "lists", "joined", "columns"]


@dataclass(frozen=True)
class Labelled:
    """Where the labels stand: the column, or the columns of yes and no; how, with the `separator` of joined ones; and
    what else the cells might be."""

    names: tuple[str, ...]
    how: How
    separator: str | None = None
    joined: Joined | None = None

    @property
    def several(self) -> bool:
        """Whether a row may have several labels."""
        return self.how != "one"

    def of_row(self, row: Row) -> list[str] | None:
        """The labels of a row; None where they can't be read, or where one is needed and there is none."""
        try:
            if self.how == "columns":
                return tidy(name for name in self.names if FLAG.read(row.get(name)))
            if self.several:
                return labels_of(row.get(self.names[0]), self.separator)
            cell = row.get(self.names[0])
            return tidy([str(cell)]) or None if cell is not None else None
        except BadCell:
            return None


def find_labels(rows: Sequence[Row], columns: Sequence[Column], text: str | None, label: str | None) -> list[Labelled]:
    """Where the labels may stand, likeliest first; `columns` are those of `rows`, `text` and `label` what was named.
    Columns of yes and no count together, unless one of them was named, or one column alone is called as labels are."""
    named = [column for column in columns if column.name == label] if label else [c for c in columns if c.name != text]
    seen = {column.name: _seen(rows, column) for column in named}
    if label is not None:
        return [seen[label][0]]
    flags = [column for column in named if _is_flag(column)]
    titled = [column for column in flags if column.named(LABEL_NAMES)]
    together = (
        len(titled) != 1
        and len(flags) >= FEWEST_FLAGS
        and sum(len(column.counts) > 1 for column in flags) >= FEWEST_FLAGS
    )
    single = [as_labels for where, as_labels in seen.values() if not (together and where.names[0] in _names(flags))]
    likely = label_columns(single)
    found = [seen[column.name][0] for column in likely]
    if together and not (likely and likely[0].named(LABEL_NAMES)):
        return [Labelled(_names(flags), "columns"), *found]
    return found


def _seen(rows: Sequence[Row], column: Column) -> tuple[Labelled, Column]:
    """What a column is if it holds labels, and the labels that it holds then."""
    cells = [row.get(column.name) for row in rows]
    lists = sum(_is_list(cell) for cell in cells)
    if lists and lists >= LISTS * sum(cell not in (None, "") for cell in cells):
        return Labelled((column.name,), "lists"), _parts(column.name, cells, None)
    joined = find_joined(column.counts)
    if joined is not None and joined.several:
        where = Labelled((column.name,), "joined", joined.separator, joined)
        return where, _parts(column.name, cells, joined.separator)
    return Labelled((column.name,), "one", joined=joined), column


def _parts(name: str, cells: Sequence[object], separator: str | None) -> Column:
    found = []
    for cell in cells:
        try:
            found += labels_of(cell, separator)
        except BadCell:
            continue
    return Column(name, found, len(cells))


def _is_list(cell: object) -> bool:
    return isinstance(cell, list) or (isinstance(cell, str) and written_list(cell) is not None)


def _is_flag(column: Column) -> bool:
    """Whether the cells say yes or no, but for hardly any."""
    said = {cell: count for cell, count in column.counts.items() if _says(cell)}
    return 0 < len(said) <= SIGNS and sum(said.values()) >= SAID * column.counts.total()


def _says(cell: str) -> bool:
    try:
        return FLAG.read(cell) is not None
    except BadCell:
        return False


def _names(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)
