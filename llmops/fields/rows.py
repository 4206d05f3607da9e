"""Rows: a split, or all that was read, as it travels through the stages: columns where whole splits are meant, one row
where one row is meant.

`Listed` holds rows as people write them, whatever they nest (chats). `Columned` holds an Arrow table, a million rows of
thirty columns in some hundred megabytes. Stages know only `Rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from llmops.core.rows import Row, Rows

if TYPE_CHECKING:
    import pyarrow as pa

Places = np.ndarray[Any, np.dtype[np.int64]]


class Listed(Rows):
    """Rows as a list of mappings."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, place: int) -> Row:
        return self.rows[place]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def take(self, places: Places | Sequence[int]) -> Self:
        return type(self)([self.rows[place] for place in places])

    def values(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.rows]

    def with_values(self, name: str, values: Sequence[Any]) -> Self:
        return type(self)([{**row, name: value} for row, value in zip(self.rows, values, strict=True)])

    def joined(self, others: Sequence[Self]) -> Self:
        return type(self)([row for part in (self, *others) for row in part.rows])

    def write(self, folder: Path, split: str) -> Path:
        path = folder / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in self.rows)
        return path


class Columned(Rows):
    """Rows as an Arrow table. What the house notes about rows (`NOTES`) stands in columns with brackets, "(label)", so
    that a table may have fields called so: a weight, an origin."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, place: int) -> Row:
        [row] = self.table.slice(place, 1).to_pylist()
        return _unbracketed(row)

    def take(self, places: Places | Sequence[int]) -> Self:
        return type(self)(self.table.take(np.asarray(places, np.int64)))

    def values(self, name: str) -> list[Any]:
        """A note of that name, else the field; a field that may be called like a note is read by `columns_of`."""
        column = noted(name) if noted(name) in self.table.column_names else name
        if column not in self.table.column_names:
            return [None] * len(self)
        values: list[Any] = self.table[column].to_pylist()
        return values

    def with_values(self, name: str, values: Any) -> Self:
        """A note of that name, else a field; `values` may be an Arrow or numpy array too."""
        return self.with_column(noted(name) if name in NOTES else name, values)

    def with_column(self, column: str, values: Any) -> Self:
        """The table with this very column set."""
        import pyarrow as pa

        made = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        if column in self.table.column_names:
            return type(self)(self.table.set_column(self.table.column_names.index(column), column, made))
        return type(self)(self.table.append_column(column, made))

    def joined(self, others: Sequence[Self]) -> Self:
        import pyarrow as pa

        tables = [self.table, *(other.table for other in others)]
        return type(self)(pa.concat_tables(tables, promote_options="permissive").unify_dictionaries())

    def write(self, folder: Path, split: str) -> Path:
        import pyarrow.parquet as pq

        path = folder / f"{split}.parquet"
        pq.write_table(self.table, path, compression="zstd")
        return path

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(10_000):
            yield from map(_unbracketed, batch.to_pylist())


NOTES = ("id", "origin", "label", "weight", "group", "time")
"""What the house notes about rows: their id, where they came from, what is to be predicted, how much they count, and
what prepare splits by."""


def noted(name: str) -> str:
    """The column of a table that holds a note."""
    return f"({name})"


def _unbracketed(row: Row) -> Row:
    """A row with its notes under their plain names, where no field is called so."""
    named = {noted(name): name for name in NOTES if name not in row}
    return {named.get(name, name): value for name, value in row.items()}


def read_split(dataset: Path, split: str) -> Rows:
    """A split of a prepared data set; no rows when its file is not there.

    Raises OSError or ValueError when the file is damaged.
    """
    if (dataset / f"{split}.parquet").exists():
        import pyarrow.parquet as pq

        return Columned(pq.read_table(dataset / f"{split}.parquet"))
    path = dataset / f"{split}.jsonl"
    if not path.exists():
        return Listed([])
    # Not splitlines: a text may hold U+2028 and its like, which JSON does not escape.
    return Listed([json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line])


def columns_of(rows: Rows, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of rows as numpy columns, by their kinds (`Kind.numpy`, `Kind.column`)."""
    if isinstance(rows, Columned):
        return {name: kind.numpy(rows.table[name]) for name, kind in kinds.items()}
    return {name: kind.column(rows.values(name)) for name, kind in kinds.items()}
