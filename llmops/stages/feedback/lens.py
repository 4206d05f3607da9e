"""Lens: how both sides of a comparison are looked at: as the model sees them, and as the log keeps them.

Without it, a placeholder such as <email> or a capital letter that only one side can have would pass for drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from llmops.core.protocols import Row
from llmops.fields.config import CleanStep
from llmops.fields.kind import BadCell, Column, Keys, Kind
from llmops.fields.redaction import KINDS, redact
from llmops.fields.rowkeys import row_keys


class Lens:
    """`kinds` are the inputs' by name; `cleaning` is what the champion's bundle carries (`CleanStep.plain()`). With
    `repeats` rows that agree in all inputs are not one: in a table of a few categories nearly all rows have twins, and
    counting each combination once would compare the combinations and not how often they come."""

    def __init__(self, kinds: Mapping[str, Kind], cleaning: Mapping[str, Any], repeats: bool = False) -> None:
        self.kinds, self.step, self.repeats = kinds, CleanStep(**cleaning), repeats

    def columns(self, rows: Sequence[Row]) -> dict[str, Column]:
        """The fields of rows, cleaned and redacted. What a kind cannot read is missing."""
        return self.seen(read_columns(self.kinds, rows))

    def seen(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Columns as their kinds read them, cleaned and redacted; numbers hold nothing to clean or to hide."""
        return {
            name: columns[name] if kind.numeric else changed(columns[name], partial(self._see, kind))
            for name, kind in self.kinds.items()
        }

    def keys(self, columns: Mapping[str, Column]) -> Keys:
        """What rows are equal by."""
        return keys_of(self.kinds, columns)

    def _see(self, kind: Kind, value: Any) -> Any:
        return redacted(kind, kind.cleaned(value, self.step))


def read_columns(kinds: Mapping[str, Kind], rows: Sequence[Row]) -> dict[str, Column]:
    """The fields of rows as their kinds read them. What a kind cannot read is missing."""
    return {name: kind.column([_read(kind, row.get(name)) for row in rows]) for name, kind in kinds.items()}


def keys_of(kinds: Mapping[str, Kind], columns: Mapping[str, Column]) -> Keys:
    """What rows are equal by, as the kinds of their fields say."""
    return row_keys({name: kind.keys(columns[name]) for name, kind in kinds.items()})


def redacted(kind: Kind, value: Any) -> Any:
    """A value as the log keeps it."""
    return kind.redacted(value, lambda text: redact(text, KINDS))


def changed(column: Column, change: Callable[[Any], Any]) -> Column:
    """A column of objects with each distinct value changed once."""
    made = {value: change(value) for value in set(column.tolist())}
    new = np.empty(len(column), object)
    new[:] = [made[value] for value in column.tolist()]
    return new


def _read(kind: Kind, cell: Any) -> Any:
    try:
        return kind.read(cell)
    except BadCell:
        return None
