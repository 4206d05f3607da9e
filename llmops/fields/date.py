"""The kind date: a day or a moment. Values are seconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.fields.kind import BadCell, Column, ReadColumn
from llmops.fields.quantities import Quantity
from llmops.fields.words import ABSENT, read_distinct

if TYPE_CHECKING:
    import pyarrow as pa

FIRST, LAST = 1900, 2200
"""Years; others are mistakes of typing, or stand for something else."""


class Date(Quantity):
    """See the module. ISO 8601, or as the field's `dates` says; without a zone it is UTC."""

    name = "date"

    def read(self, cell: Any) -> float | None:
        """Raises BadCell for what is no date, and for years that no table means."""
        if cell is None:
            return None
        if isinstance(cell, datetime):
            return self._seconds(cell)
        if isinstance(cell, date):
            return self._seconds(datetime(cell.year, cell.month, cell.day))
        if not isinstance(cell, str):
            if isinstance(cell, float) and np.isnan(cell):
                return None
            raise BadCell("a number, not a date (write 2026-11-22)")
        text = cell.strip()
        folded = text.casefold()
        if folded in ABSENT or folded in {word.casefold() for word in self.section.missing}:
            return None
        try:
            parsed = datetime.strptime(text, self.section.dates) if self.section.dates else _iso(text)
        except ValueError:
            how = f"as {self.section.dates}" if self.section.dates else "write 2026-11-22"
            raise BadCell(f"not a date ({how})") from None
        return self._seconds(parsed)

    def _seconds(self, moment: datetime) -> float:
        if not FIRST <= moment.year <= LAST:
            raise BadCell(f"a date before {FIRST} or after {LAST}")
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        import pyarrow as pa

        found = read_distinct(cells, self.read, pa.float64())
        return ReadColumn(_moments(found.values), found.bad)

    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        import pyarrow as pa

        return np.asarray(values.cast(pa.int64()).cast(pa.float64()).to_numpy(), np.float64)

    def arrow(self, column: Column) -> pa.Array:
        """A numpy column as moments of a second."""
        import pyarrow as pa

        return _moments(pa.array(column, from_pandas=True))

    def shown(self, value: float) -> str:
        moment = datetime.fromtimestamp(value, UTC)
        whole = moment.isoformat(timespec="minutes").replace("+00:00", "")
        return whole.removesuffix("T00:00")

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        middle = known["quantiles"][3] if known["quantiles"] else 0.0
        return {
            "type": ["string", "null"], "format": "date-time", "x-control": "date", "examples": [self.shown(middle)],
        }  # fmt: skip


def _iso(text: str) -> datetime:
    if text.isdigit():
        raise ValueError("a bare number")
    return datetime.fromisoformat(text)


def _moments(seconds: pa.Array) -> pa.Array:
    """float64 seconds as Arrow's timestamps of whole seconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.round(seconds).cast(pa.int64()).cast(pa.timestamp("s"))
