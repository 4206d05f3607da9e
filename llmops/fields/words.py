"""Base of kinds whose values are words: text, category, id. Columns are objects (str or None)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmops.fields.hashing import key_of
from llmops.fields.kind import BadCell, Column, Keys, Kind, ReadColumn

if TYPE_CHECKING:
    import pyarrow as pa

ABSENT = frozenset(("", "na", "n/a", "nan", "null", "none", "-", "?"))
"""Words that mean that there is no value, folded."""


class Wordy(Kind):
    """Values are words."""

    numeric = False
    absent: ClassVar[frozenset[str]] = frozenset([""])

    def read(self, cell: Any) -> str | None:
        """The words of a cell; numbers as their shortest text. Raises BadCell for a list or an object."""
        if cell is None or (isinstance(cell, float) and np.isnan(cell)):
            return None
        text = self.written(cell)
        folded = text.casefold()
        return None if folded in self.absent or folded in self._missing else text

    def written(self, cell: Any) -> str:
        """A cell as text, its ends trimmed."""
        if isinstance(cell, str):
            return cell.strip()
        if isinstance(cell, bool):
            return str(cell).lower()
        if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        if isinstance(cell, int | float | Decimal) or hasattr(cell, "isoformat"):
            return str(cell)
        raise BadCell("more than one value in a cell" if isinstance(cell, list | dict | tuple) else "not words")

    @property
    def _missing(self) -> set[str]:
        return {word.casefold() for word in self.section.missing}

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        """Each distinct cell is read once."""
        import pyarrow as pa

        return read_distinct(cells, self.read, pa.string())

    def column(self, values: Sequence[Any]) -> Column:
        """Objects."""
        made = np.empty(len(values), object)
        made[:] = values
        return made

    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        """Objects; each distinct value is one Python object."""
        import pyarrow as pa

        whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if not pa.types.is_dictionary(whole.type):
            whole = whole.dictionary_encode()
        names = self.column([*whole.dictionary.to_pylist(), None])
        codes = whole.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(names[codes.astype(np.int64)])

    def key(self, value: Any) -> str:
        """The words as they stand."""
        return "\0missing" if value is None else str(value)

    def keys(self, values: Column) -> Keys:
        """Each distinct value is hashed once."""
        hashed: dict[Any, int] = {}
        for value in values:
            if value not in hashed:
                hashed[value] = key_of(self.key(value))
        return np.fromiter((hashed[value] for value in values), np.uint64, len(values))


def read_distinct(cells: pa.Array | pa.ChunkedArray, read: Callable[[Any], Any], kind: pa.DataType) -> ReadColumn:
    """A column read one distinct cell at a time."""
    import pyarrow as pa

    whole = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    if not pa.types.is_dictionary(whole.type):
        try:
            whole = whole.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists and objects
            return _read_each(whole.to_pylist(), read, kind)
    distinct = _read_each(whole.dictionary.to_pylist(), read, kind)
    codes = whole.indices
    bad: dict[int, str] = {}
    if distinct.bad:
        numbers = codes.to_numpy(zero_copy_only=False)
        for code, reason in distinct.bad.items():
            bad.update(dict.fromkeys(np.flatnonzero(numbers == code).tolist(), reason))
    return ReadColumn(distinct.values.take(codes), dict(sorted(bad.items())))


def _read_each(cells: Sequence[Any], read: Callable[[Any], Any], kind: pa.DataType) -> ReadColumn:
    import pyarrow as pa

    values, bad = [], {}
    for place, cell in enumerate(cells):
        try:
            values.append(read(cell))
        except BadCell as error:
            values.append(None)
            bad[place] = str(error)
    return ReadColumn(pa.array(values, kind), bad)
