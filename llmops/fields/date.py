"""The kind date: a day or a moment. Values are seconds since 1970 (UTC)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.fields.kind import BadCell, Column, Drifted, ReadColumn
from llmops.fields.quantities import Quantity
from llmops.fields.words import ABSENT, one_array, read_distinct

if TYPE_CHECKING:
    import pyarrow as pa

FIRST, LAST = 1900, 2200
"""Years; others are mistakes of typing, or stand for something else."""
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (FIRST, LAST + 1))
TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6}
FAR_OFF = f"a date before {FIRST} or after {LAST}"


class Date(Quantity):
    """See the module. ISO 8601, or as the field's `dates` says; without a zone it is UTC. Numbers are refused: whether
    they count days or milliseconds, and from when, nobody can tell."""

    name = "date"

    def read(self, cell: Any) -> float | None:
        """Raises BadCell for what is no date, and for years that no table means."""
        if cell is None or (isinstance(cell, float | datetime) and cell != cell):  # NaN, pandas' NaT
            return None
        if isinstance(cell, date):
            return self._typed(cell)
        if not isinstance(cell, str):
            raise BadCell("not a date (write 2026-11-22)")
        text = cell.strip()
        folded = text.casefold()
        if folded in ABSENT or folded in self.missing:
            return None
        try:
            parsed = datetime.strptime(text, self.section.dates) if self.section.dates else _iso(text)
        except ValueError:
            raise BadCell(self._why(text)) from None
        return _seconds(parsed)

    def _typed(self, cell: date) -> float | None:
        """A cell that is a date already."""
        if self.missing and not self.missing.isdisjoint((cell.isoformat().casefold(), cell.isoformat()[:10])):
            return None
        return _seconds(cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day))

    def _why(self, text: str) -> str:
        if self.section.dates:
            return f"not a date (as {self.section.dates})"
        return "no such day" if re.match(r"\d{4}-\d\d-\d\d(\D|$)", text) else "not a date (write 2026-11-22)"

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        """Columns that are dates already pass as they are; others are read one distinct cell at a time."""
        import pyarrow as pa

        whole = one_array(cells)
        if self.missing or not (pa.types.is_date(whole.type) or pa.types.is_timestamp(whole.type)):
            found = read_distinct(whole, self.read, pa.float64())
            return ReadColumn(_moments(found.values), found.bad)
        seconds = np.round(_instants(whole))
        far = np.flatnonzero((seconds < EARLIEST) | (seconds >= LATEST))
        seconds[far] = np.nan
        return ReadColumn(_moments(pa.array(seconds, from_pandas=True)), dict.fromkeys(far.tolist(), FAR_OFF))

    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        import pyarrow as pa

        seconds = one_array(values).cast(pa.timestamp("s"), safe=False).cast(pa.int64()).cast(pa.float64())
        return np.asarray(seconds.to_numpy(zero_copy_only=False), np.float64)

    def arrow(self, column: Column) -> pa.Array:
        """A numpy column as moments of a second."""
        import pyarrow as pa

        return _moments(pa.array(column, from_pandas=True))

    def shown(self, value: float) -> str:
        moment = datetime.fromtimestamp(value, UTC)
        whole = moment.isoformat(timespec="minutes").replace("+00:00", "")
        return whole.removesuffix("T00:00")

    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        """Whether more (or fewer) are missing. That dates move on is no drift: time does."""
        return self.lacking(name, old, new, rng)

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        middle = known["quantiles"][3] if known["quantiles"] else 0.0
        return {
            "type": ["string", "null"], "format": "date-time", "x-control": "date", "examples": [self.shown(middle)],
        }  # fmt: skip


def _seconds(moment: datetime) -> float:
    """Whole seconds since 1970; a moment without a zone is UTC."""
    seconds = float(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()))
    if not EARLIEST <= seconds < LATEST:
        raise BadCell(FAR_OFF)
    return seconds


def _instants(whole: pa.Array) -> Column:
    """Arrow's days and moments as seconds since 1970, NaN where there is none; nanoseconds as Python has them, cut to
    microseconds."""
    import pyarrow as pa

    if pa.types.is_date32(whole.type):
        ticks, each = whole.cast(pa.int32()), 1 / 86_400
    elif pa.types.is_date64(whole.type):
        ticks, each = whole.cast(pa.int64()), 1e3
    else:
        cut = whole.cast(pa.timestamp("us"), safe=False) if whole.type.unit == "ns" else whole
        ticks, each = cut.cast(pa.int64()), TICKS[cut.type.unit]
    return np.array(ticks.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64) / each


def _iso(text: str) -> datetime:
    if text.isdigit():
        raise ValueError("a bare number")
    return datetime.fromisoformat(text)


def _moments(seconds: pa.Array) -> pa.Array:
    """float64 seconds as Arrow's timestamps of whole seconds."""
    import pyarrow as pa

    return seconds.cast(pa.int64()).cast(pa.timestamp("s"))
