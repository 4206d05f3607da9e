"""The kind number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.fields.kind import BadCell, Column, ReadColumn
from llmops.fields.mixes import FEWEST
from llmops.fields.quantities import Quantity
from llmops.fields.words import ABSENT, read_distinct

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
CANONICAL = r"^-?\d{1,15}(\.\d{1,15})?$"
"""What Arrow reads as `read` does, so that a million cells need no Python."""
AROUND = re.compile(r"^(?:EUR|USD|GBP|CHF|[$€£¥%\s])+|(?:EUR|USD|GBP|CHF|[$€£¥%\s])+$", re.IGNORECASE)
GROUPED = {".": re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?"), ",": re.compile(r"[-+]?\d{1,3}([.]\d{3})+(,\d+)?")}
BLANKS = re.compile(r"(?<=\d)[\s'\u2019](?=\d{3}(\D|$))")
FACTORS = (10.0, 12.0, 100.0, 1000.0, 1e6)
"""By which a number grows or shrinks when another unit is sent: mm and cm, months and years, cents, thousands."""
NEAR_FACTOR = 0.15


class Number(Quantity):
    """See the module. Thousands may be set apart (by the sign that `decimal` is not, by blanks or apostrophes), and a
    currency or a per cent sign may stand around: `1,234.5 €` is 1234.5, `12 %` is 12."""

    name = "number"

    def read(self, cell: Any) -> float | None:
        """Raises BadCell for words, infinities and what is too large for a number."""
        if cell is None:
            return None
        if isinstance(cell, str):
            return self._parsed(cell.strip())
        if isinstance(cell, bool | int | float | Decimal | np.number):
            try:
                value = float(cell)
            except OverflowError:
                raise BadCell("too large for a number") from None
            if math.isnan(value):
                return None
            if math.isinf(value):
                raise BadCell("infinite")
            return value
        raise BadCell("not a number")

    def _parsed(self, text: str) -> float | None:
        folded = text.casefold()
        if folded in ABSENT or folded in {word.casefold() for word in self.section.missing}:
            return None
        bare = BLANKS.sub("", AROUND.sub("", text))
        if GROUPED[self.section.decimal].fullmatch(bare):
            bare = bare.replace("," if self.section.decimal == "." else ".", "")
        if self.section.decimal == ",":
            if "." in bare:
                raise BadCell("not a number (a point, where `decimal` is a comma)")
            bare = bare.replace(",", ".")
        elif re.fullmatch(r"[-+]?\d+,\d+", bare):
            raise BadCell("not a number (a comma, where `decimal` is a point)")
        if not PLAIN.fullmatch(bare):
            raise BadCell("infinite" if bare.lstrip("+-").casefold() in ("inf", "infinity") else "not a number")
        value = float(bare)
        if math.isinf(value):
            raise BadCell("too large for a number")
        return value

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        """Canonical cells by Arrow, the others one distinct cell at a time."""
        import pyarrow as pa
        import pyarrow.compute as pc

        whole = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        if isinstance(whole, pa.ChunkedArray):
            whole = pa.concat_arrays(whole.chunks)
        if pa.types.is_integer(whole.type) or pa.types.is_floating(whole.type) or pa.types.is_boolean(whole.type):
            return self._typed(whole)
        if not (pa.types.is_string(whole.type) or pa.types.is_large_string(whole.type)):
            return read_distinct(whole, self.read, pa.float64())
        words = {word.casefold() for word in self.section.missing}
        plain = self.section.decimal == "." and not any(PLAIN.fullmatch(word) for word in words)
        fits = pc.match_substring_regex(whole, CANONICAL) if plain else pa.array(np.zeros(len(whole), bool))
        fits = fits.fill_null(False)
        if pc.all(fits).as_py():
            return ReadColumn(whole.cast(pa.float64()), {})
        direct = pc.if_else(fits, whole, None).cast(pa.float64())
        rest = np.flatnonzero(~np.asarray(fits))
        others = read_distinct(whole.take(pa.array(rest)), self.read, pa.float64())
        values = direct.to_numpy(zero_copy_only=False).copy()
        values[rest] = others.values.to_numpy(zero_copy_only=False)
        bad = {int(rest[place]): reason for place, reason in others.bad.items()}
        return ReadColumn(pa.array(values, from_pandas=True), bad)

    def _typed(self, whole: pa.Array) -> ReadColumn:
        """Numbers already; infinities are bad."""
        import pyarrow as pa

        values = whole.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            values = np.where(np.isinf(values), np.nan, values)
        return ReadColumn(pa.array(values, from_pandas=True), dict.fromkeys(infinite.tolist(), "infinite"))

    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        return np.asarray(values.to_numpy(), np.float64)

    def shown(self, value: float) -> str:
        return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.4g}"

    def schema_drift(self, name: str, old: Column, new: Column) -> list[str]:
        """Another unit: the quartiles grew, or shrank, by one of the usual factors all alike."""
        gone = super().schema_drift(name, old, new)
        ours, theirs = old[~np.isnan(old)], new[~np.isnan(new)]
        if gone or min(len(ours), len(theirs)) < FEWEST:
            return gone
        before, after = np.quantile(ours, [0.25, 0.5, 0.75]), np.quantile(theirs, [0.25, 0.5, 0.75])
        if np.any(before * after <= 0):
            return []
        ratios = after / before
        factor = float(ratios[1] if ratios[1] > 1 else 1 / ratios[1])
        alike = np.all(np.abs(np.log(ratios) - np.log(ratios[1])) < 2 * NEAR_FACTOR)
        unit = next((unit for unit in FACTORS if abs(math.log(factor / unit)) < NEAR_FACTOR), None)
        if unit is None or not alike:
            return []
        way = "larger" if ratios[1] > 1 else "smaller"
        medians = f"median {self.shown(before[1])} -> {self.shown(after[1])}"
        return [f"{name} looks {unit:,.0f} times {way} ({medians}): another unit?"]

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        middle = known["quantiles"][3] if known["quantiles"] else 0.0
        whole = int(middle) if known["whole"] else middle
        return {"type": ["number", "null"], "x-control": "number", "examples": [whole]}
