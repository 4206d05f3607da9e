"""Base of kinds whose values are words: text, category, id. Columns are objects (str or None)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmops.fields.cleaning import SURROGATE
from llmops.fields.hashing import key_of
from llmops.fields.kind import BadCell, Column, Keys, Kind, ReadColumn

if TYPE_CHECKING:
    import pyarrow as pa

ABSENT = frozenset(("", "na", "n/a", "nan", "null", "none", "-", "?"))
"""Words that mean that there is no value, folded. A category "none" is missing too: a model learns from what is missing
as from a value, and tables that write both an empty cell and "none" for the same thing are common."""


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
        return None if folded in self.absent or folded in self.missing else text

    def written(self, cell: Any) -> str:
        """A cell as text, its ends trimmed."""
        return as_text(cell).strip()

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

        whole = one_array(values)
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


def as_text(cell: Any) -> str:
    """One cell as text: a whole number without decimals, so that a code is the same whether it was read as 2 or 2.0.
    Halves of surrogate pairs, which UTF-8 can't carry, become U+FFFD. Raises BadCell for a list or an object."""
    if isinstance(cell, str):
        if not cell.isascii() and SURROGATE.search(cell):
            return cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return str(cell)
    if isinstance(cell, bool | np.bool_):
        return str(cell).lower()
    if isinstance(cell, np.number):
        cell = cell.item()
    if isinstance(cell, Decimal) and cell.is_finite():
        return f"{cell.normalize():f}"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, int | float | Decimal) or hasattr(cell, "isoformat"):
        return str(cell)
    raise BadCell("more than one value in a cell" if isinstance(cell, list | dict | tuple) else "not words")


def one_array(cells: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    import pyarrow as pa

    return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells


def as_python(cells: pa.Array) -> list[Any]:
    """Cells as Python has them. Days that Python's calendar lacks (Parquet knows the year 275760) become text, which no
    kind takes for a day."""
    try:
        found: list[Any] = cells.to_pylist()
    except (OverflowError, ValueError):
        found = [_as_python(cell) for cell in cells]
    return found


def _as_python(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return f"{cell.type} {getattr(cell, 'value', 'out of range')}"


def read_distinct(cells: pa.Array | pa.ChunkedArray, read: Callable[[Any], Any], kind: pa.DataType) -> ReadColumn:
    """A column read one distinct cell at a time; as a dictionary of distinct values where `kind` is one."""
    import pyarrow as pa

    whole = one_array(cells)
    flat = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_timestamp(whole.type) and whole.type.unit == "ns":  # Python knows no nanoseconds
        whole = whole.cast(pa.timestamp("us", whole.type.tz), safe=False)
    if not pa.types.is_dictionary(whole.type):
        try:
            whole = whole.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists and objects
            each = read_each(as_python(whole), read, flat)
            return ReadColumn(each.values if flat == kind else each.values.dictionary_encode(), each.bad)
    distinct = read_each(as_python(whole.dictionary), read, flat)
    codes = whole.indices
    bad: dict[int, str] = {}
    if distinct.bad:
        numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False)
        for place in np.flatnonzero(np.isin(numbers, list(distinct.bad))).tolist():
            bad[place] = distinct.bad[int(numbers[place])]
    if flat == kind:
        return ReadColumn(distinct.values.take(codes), bad)
    names = distinct.values.dictionary_encode()  # cells that are written differently may be one value
    return ReadColumn(pa.DictionaryArray.from_arrays(names.indices.take(codes), names.dictionary), bad)


def read_each(cells: Sequence[Any], read: Callable[[Any], Any], kind: pa.DataType) -> ReadColumn:
    """Cells of any types, read one by one."""
    import pyarrow as pa

    values, bad = [], {}
    for place, cell in enumerate(cells):
        try:
            values.append(read(cell))
        except BadCell as error:
            values.append(None)
            bad[place] = str(error)
    return ReadColumn(pa.array(values, kind), bad)
