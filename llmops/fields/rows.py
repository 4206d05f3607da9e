"""Rows: a split, or all that was read, as it travels through the stages: columns where whole splits are meant, one row
where one row is meant.

`Listed` holds rows as people write them, whatever they nest (chats). `Columned` holds an Arrow table, a million rows of
thirty columns in some hundred megabytes. Stages know only `Rows`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from llmops.core.protocols import Row

if TYPE_CHECKING:
    import pyarrow as pa

Places = np.ndarray[Any, np.dtype[np.int64]]


class Rows(ABC):
    """Rows in their order. Never changed: what changes them makes new ones."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, place: int) -> Row:
        """One row as a mapping of plain values."""

    @abstractmethod
    def take(self, places: Places | Sequence[int]) -> Self:
        """The rows at these places, in this order."""

    @abstractmethod
    def values(self, name: str) -> Sequence[Any]:
        """One field of all rows as plain values; None where a row has none."""

    @abstractmethod
    def with_values(self, name: str, values: Sequence[Any]) -> Self:
        """The same rows with one field more (or another one of that name)."""

    @abstractmethod
    def joined(self, others: Sequence[Self]) -> Self:
        """These rows and, after them, others of the same fields."""

    @abstractmethod
    def write(self, folder: Path, split: str) -> Path:
        """Write the rows as one file of `folder`; `read_split` reads it."""

    def __iter__(self) -> Iterator[Row]:
        return (self.row(place) for place in range(len(self)))


class Listed(Rows):
    """Rows as a list of mappings."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, place: int) -> Row:
        return self.rows[place]

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
    """Rows as an Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, place: int) -> Row:
        row: Row = self.table.slice(place, 1).to_pylist()[0]
        return row

    def take(self, places: Places | Sequence[int]) -> Self:
        return type(self)(self.table.take(np.asarray(places, np.int64)))

    def values(self, name: str) -> list[Any]:
        values: list[Any] = self.table[name].to_pylist()
        return values

    def with_values(self, name: str, values: Any) -> Self:
        """`values` may be an Arrow or numpy array too."""
        import pyarrow as pa

        made = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        if name in self.table.column_names:
            return type(self)(self.table.set_column(self.table.column_names.index(name), name, made))
        return type(self)(self.table.append_column(name, made))

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
            yield from batch.to_pylist()


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
