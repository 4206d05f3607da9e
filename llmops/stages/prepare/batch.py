"""Batch: rows on their way through prepare, and beside each what prepare decides by. No verb looks at the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from llmops.core.protocols import Row, Rows, Task
from llmops.core.protocols.task import CLASSED
from llmops.fields.kind import Keys
from llmops.fields.labelsets import each
from llmops.records.twins import input_keys, twin_keys

Objects = np.ndarray[Any, np.dtype[np.object_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
FIELDS = ("keys", "twins", "labels", "votes", "groups", "moments")


@dataclass(frozen=True)
class Batch:
    """Rows, and arrays of their length: `keys`, by which their inputs are equal and from which their split is hashed;
    `twins`, by which they say the same altogether; `labels` where a class is predicted, tuples of them where it may be
    several; `votes`, the rows that each stands for; `groups` and `moments` where the split goes by them."""

    rows: Rows
    keys: Keys
    twins: Keys
    votes: Ints
    labels: Objects | None = None
    groups: Objects | None = None
    moments: Objects | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, places: Ints | Sequence[int]) -> Self:
        """The rows at these places, in this order."""
        at = np.asarray(places, np.int64)
        return replace(self, rows=self.rows.take(at), **{name: _at(getattr(self, name), at) for name in FIELDS})

    def where(self, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Self:
        """The rows of a mask."""
        return self if kept.all() else self.take(np.flatnonzero(kept))

    def joined(self, *others: Self) -> Self:
        """These rows and, after them, others."""
        parts = [part for part in (self, *others) if len(part)]
        if len(parts) < 2:
            return parts[0] if parts else self
        arrays = {name: _end_to_end(parts, name) for name in FIELDS}
        return replace(self, rows=parts[0].rows.joined([part.rows for part in parts[1:]]), **arrays)

    def labels_of_rows(self) -> list[tuple[str, ...]]:
        """Each row's labels: one, any number, or none where no class is predicted."""
        return [()] * len(self) if self.labels is None else [each(label) for label in self.labels.tolist()]

    def with_labels(self, labels: Sequence[tuple[str, ...]], votes: Ints | None = None) -> Self:
        """The same rows with other sets of labels, and other votes where they are given."""
        rows = self.rows.with_values("label", [list(one) for one in labels])
        return replace(self, rows=rows, labels=_objects(labels), votes=self.votes if votes is None else votes)

    def row(self, place: int) -> Row:
        """One row as a mapping."""
        return self.rows.row(place)

    def origin(self, place: int) -> str:
        """Where a row came from: "file:line"."""
        return str(self.rows.take([place]).values("origin")[0])


def _at(values: Any, places: Ints) -> Any:
    return None if values is None else values[places]


def _end_to_end(parts: Sequence[Batch], name: str) -> Any:
    """Arrays one after the other; where a part has none (feedback's rows know no moment), its rows have None there."""
    arrays = [getattr(part, name) for part in parts]
    if all(array is None for array in arrays):
        return None
    return np.concatenate(
        [np.full(len(part), None) if array is None else array for part, array in zip(parts, arrays, strict=True)]
    )


def batch_of(task: Task, section: Any, rows: Rows, group: bool = False, time: bool = False) -> Batch:
    """Rows as a batch; `group` and `time` say that rows carry these."""
    keys = input_keys(task, section, rows)
    labels = _objects(rows.values("label")) if task.predicts(section) in CLASSED else None
    return Batch(
        rows=rows,
        keys=keys,
        twins=twin_keys(rows, keys),
        votes=np.ones(len(rows), np.int64),
        labels=labels,
        groups=_objects(rows.values("group")) if group else None,
        moments=_objects(rows.values("time")) if time else None,
    )


def _objects(values: Sequence[Any]) -> Objects:
    """An array of these, lists as tuples; one by one, since numpy would take tuples of one length for a matrix."""
    made = np.empty(len(values), object)
    for place, value in enumerate(values):
        made[place] = tuple(value) if isinstance(value, list) else value
    return made
