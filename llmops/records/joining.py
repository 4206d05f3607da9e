"""Joins: columns of further tables beside the rows, by a key that stands at most once in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmops.core.errors import DataError
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import Kind
from llmops.fields.rows import NOTES, Columned, noted
from llmops.records.columns import ColumnReading, read_columns
from llmops.records.config import SourceSection, shown
from llmops.records.readers import read


@dataclass(frozen=True)
class Beside:
    """The tables that join, each with its key's column."""

    readings: list[ColumnReading] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Columns that these tables bring."""
        found = {name for reading in self.readings for name in reading.columns.table.column_names}
        return found - set(map(noted, NOTES)) - set(self.keys)

    def with_keys(self, kinds: Mapping[str, Kind]) -> dict[str, Kind]:
        """`kinds` with the columns of the keys, which rows need to be joined by."""
        ident = kind_of(FieldSection(kind="id"))
        return {**kinds, **{key: ident for key in self.keys if key not in kinds}}


def unjoined(sources: Sequence[SourceSection], root: Path, kinds: Mapping[str, Kind], limit: int | None) -> Beside:
    """The tables that join, read; the first source that has a column brings it. Raises DataError when none but joined
    tables are there, and for a key that stands twice."""
    joined = [source for source in sources if source.join is not None]
    if joined and len(joined) == len(sources):
        raise DataError("there is no table to join to.", shown(joined[0]), "leave `join` out of the first source")
    first = {name for source in sources if source.join is None for name in _names(source, root)}
    found = Beside()
    ident = kind_of(FieldSection(kind="id"))
    for source in joined:
        key = str(source.join)
        there = _names(source, root)
        mine = {name: kind for name, kind in kinds.items() if name in there - first - found.names and name != key}
        reading = read_columns(source, root, {**mine, key: ident}, {}, limit)
        _refuse_twice(reading, key)
        found.readings.append(reading)
        found.keys.append(key)
    return found


def _names(source: SourceSection, root: Path) -> set[str]:
    """The columns of a table; of rows that each have their own, all of them."""
    reading = read(source, root, ())
    return {name for row, _ in reading for name in row} if reading.columns is None else set(reading.columns)


def _refuse_twice(reading: ColumnReading, key: str) -> None:
    keys = reading.columns.table[key].to_pylist()
    seen: dict[str, int] = {}
    for place, value in enumerate(keys):
        if value is not None and value in seen:
            origins = reading.columns.take([seen[value], place]).values("origin")
            what = f"the key {value!r} stands more than once in the column `{key}`, by which the table joins."
            raise DataError(what, " and ".join(origins), "keep one row for each key, or join by another column")
        seen[value] = place


def join(rows: Columned, beside: Beside, order: Sequence[str]) -> Columned:
    """Rows with the columns of the tables beside; missing where a row's key has no match; each reading hears how many
    those are. The columns stand in `order`, notes after them."""
    import pyarrow as pa

    for reading, key in zip(beside.readings, beside.keys, strict=True):
        there = {value: place for place, value in enumerate(reading.columns.table[key].to_pylist())}
        kind = kind_of(FieldSection(kind="id"))
        wanted = [None if value is None else kind.read(value) for value in rows.table[key].to_pylist()]
        places = pa.array([None if value is None else there.get(value) for value in wanted], pa.int64())
        reading.unmatched = places.null_count
        for name in reading.columns.table.column_names:
            if name != key and name != noted("origin"):
                rows = rows.with_column(name, reading.columns.table[name].combine_chunks().take(places))
    names = rows.table.column_names
    ordered = [name for name in order if name in names]
    return Columned(rows.table.select([*ordered, *(name for name in names if name in map(noted, NOTES))]))
