"""The kind number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.fields.kind import BadCell, Column, ReadColumn
from llmops.fields.mixes import FEWEST
from llmops.fields.quantities import Quantity
from llmops.fields.words import ABSENT, one_array, read_distinct

if TYPE_CHECKING:
    import pyarrow as pa

    from llmops.fields.config import FieldSection

PLAIN = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
CANONICAL = {sign: rf"^-?\d+([{sign}]\d+)?([eE][-+]?\d+)?$" for sign in ".,"}
"""What Arrow reads as `read` does, so that a million cells need no Python."""
SWAPPED = str.maketrans(",.", ".,")
CODES = ("EUR", "USD", "GBP", "CHF", "JPY", "R$")
AROUND = "$€£¥₹%" + "".join(filter(str.isspace, map(chr, range(0x3001))))
"""What may stand before and after the digits."""
MINUS = "-\u2212"
"""The hyphen of keyboards and the sign that typesetters use."""
GROUPED = {
    ".": re.compile(r"[1-9]\d{0,2}(?:(?:,\d{3})+|([\s'\u2019])\d{3}(?:\1\d{3})*)(?:\.\d*)?", re.ASCII),
    ",": re.compile(r"[1-9]\d{0,2}(?:(?:\.\d{3})+|([\s'\u2019])\d{3}(?:\1\d{3})*)(?:,\d*)?", re.ASCII),
}
"""Thousands set apart, by what `decimal` is. A leading zero groups nothing: `0,125` is an eighth, and refused where
`decimal` is a point."""
FACTORS = (10.0, 12.0, 24.0, 60.0, *(10.0**power for power in range(2, 10)), 3600.0, 86_400.0)
"""By which a number grows or shrinks when another unit is sent: mm and cm, months and years, hours, minutes and
seconds, cents, thousands."""
NEAR_FACTOR = 0.09
"""Of the logarithm: 10 and 12 stay apart."""
QUARTERS = (0.25, 0.5, 0.75)


class Number(Quantity):
    """See the module. Thousands may be set apart (by the sign that `decimal` is not, by blanks or apostrophes), and a
    currency or a per cent sign may stand around: `1,234.5 €` is 1234.5, `12 %` is 12, `-$5` is -5."""

    name = "number"

    def __init__(self, section: FieldSection) -> None:
        super().__init__(section)
        self._codes = sorted(found for word in self.missing if (found := self._code(word)) is not None)
        every = ABSENT | self.missing
        self._words = sorted({form for word in every for form in (word, word.upper(), word.title())})

    def _code(self, word: str) -> float | None:
        """The number that a word for missing values writes (-999)."""
        try:
            return self._number(word)
        except BadCell:
            return None

    def read(self, cell: Any) -> float | None:
        """Raises BadCell for words, infinities and what is too large for a number."""
        if cell is None:
            return None
        if isinstance(cell, str):
            text = cell.strip()
            folded = text.casefold()
            value = math.nan if folded in ABSENT or folded in self.missing else self._number(text)
        elif isinstance(cell, bool | int | float | Decimal | np.number | np.bool_):
            value = _finite(cell)
        else:
            raise BadCell("not a number")
        return None if math.isnan(value) or value in self._codes else value

    def _number(self, text: str) -> float:
        bare = _stripped(text)
        negative = bare.startswith(tuple(MINUS))
        bare = _stripped(bare[1:]) if bare.startswith(("+", *MINUS)) else bare
        decimal = self.section.decimal
        thousands = "," if decimal == "." else "."
        if grouped := GROUPED[decimal].fullmatch(bare):
            bare = bare.replace(grouped[1] or thousands, "")
        plain = bare if decimal == "." else bare.translate(SWAPPED)
        if not PLAIN.fullmatch(plain):
            raise BadCell(_why(bare, decimal))
        value = float(plain)
        if math.isinf(value):
            raise BadCell("too large for a number")
        return -value if negative else value

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        """Canonical cells by Arrow, the others one distinct cell at a time."""
        import pyarrow as pa
        import pyarrow.compute as pc

        whole = one_array(cells)
        if pa.types.is_integer(whole.type) or pa.types.is_floating(whole.type) or pa.types.is_boolean(whole.type):
            return self._typed(whole)
        if not (pa.types.is_string(whole.type) or pa.types.is_large_string(whole.type)):
            return read_distinct(whole, self.read, pa.float64())
        there = pc.and_(pc.is_valid(whole), pc.invert(pc.is_in(whole, pa.array(self._words, whole.type))))
        values = self._cast(pc.if_else(there, whole, None))
        # NaN where there is a cell: either it is not canonical, or its number means that it is missing
        rest = np.flatnonzero(~np.isfinite(values) & there.to_numpy(zero_copy_only=False))
        others = read_distinct(whole.take(pa.array(rest)), self.read, pa.float64())
        values[rest] = others.values.to_numpy(zero_copy_only=False)
        bad = {int(rest[place]): reason for place, reason in others.bad.items()}
        return ReadColumn(pa.array(self._without_codes(values), from_pandas=True), bad)

    def _cast(self, whole: pa.Array) -> Column:
        """Text to float64 by Arrow; NaN or infinite where it can't."""
        import pyarrow as pa
        import pyarrow.compute as pc

        decimal = self.section.decimal
        with suppress(pa.ArrowInvalid):
            if decimal == ".":
                return _writable(whole.cast(pa.float64()))
        canonical = pc.if_else(pc.match_substring_regex(whole, CANONICAL[decimal]), whole, None)
        return _writable(pc.replace_substring(canonical, ",", ".").cast(pa.float64()))

    def _typed(self, whole: pa.Array) -> ReadColumn:
        """Numbers already; infinities are bad."""
        import pyarrow as pa

        values = _writable(whole.cast(pa.uint8() if pa.types.is_boolean(whole.type) else whole.type))
        infinite = np.flatnonzero(np.isinf(values))
        values[infinite] = np.nan
        bad = dict.fromkeys(infinite.tolist(), "infinite")
        return ReadColumn(pa.array(self._without_codes(values), from_pandas=True), bad)

    def _without_codes(self, values: Column) -> Column:
        if self._codes:
            values[np.isin(values, self._codes)] = np.nan
        return values

    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        return np.asarray(one_array(values).to_numpy(zero_copy_only=False), np.float64)

    def shown(self, value: float) -> str:
        return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.4g}"

    def schema_drift(self, name: str, old: Column, new: Column) -> list[str]:
        """Another unit: the quartiles of the sizes grew, or shrank, by one of the usual factors all alike."""
        gone = super().schema_drift(name, old, new)
        ours, theirs = (np.abs(side[np.abs(side) > 0]) for side in (old, new))  # zeros have no unit, NaN falls out
        if gone or min(len(ours), len(theirs)) < FEWEST:
            return gone
        before, after = np.quantile(ours, QUARTERS), np.quantile(theirs, QUARTERS)
        steps = np.log(after / before)
        unit = next((unit for unit in FACTORS if abs(abs(steps[1]) - math.log(unit)) < NEAR_FACTOR), None)
        if unit is None or np.any(np.abs(steps - steps[1]) > 2 * NEAR_FACTOR):
            return []
        way = "larger" if steps[1] > 0 else "smaller"
        medians = f"median {self.shown(before[1])} -> {self.shown(after[1])}"
        return [f"{name} looks {unit:,.0f} times {way} ({medians}): another unit?"]

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        middle = known["quantiles"][3] if known["quantiles"] else 0.0
        whole = int(middle) if known["whole"] else middle
        return {"type": ["number", "null"], "x-control": "number", "examples": [whole]}


def _finite(cell: Any) -> float:
    """A cell that is a number already as a float (NaN included)."""
    try:
        value = float(cell)
    except (OverflowError, ValueError):
        raise BadCell("too large for a number" if isinstance(cell, int) else "not a number") from None
    if math.isinf(value):
        huge = isinstance(cell, Decimal) and cell.is_finite()
        raise BadCell("too large for a number" if huge else "infinite")
    return value


def _stripped(text: str) -> str:
    """Text without blanks, currencies and per cent signs at its ends."""
    text = text.strip(AROUND)
    for code in CODES:
        if text[: len(code)].upper() == code:
            text = text[len(code) :].strip(AROUND)
        if text[-len(code) :].upper() == code:
            text = text[: -len(code)].strip(AROUND)
    return text


def _why(bare: str, decimal: str) -> str:
    """Why a cell is no number, in words that can be counted."""
    if bare.casefold() in ("inf", "infinity", "∞"):
        return "infinite"
    if re.fullmatch(r"[\d.,\s'\u2019]*\d", bare):
        if decimal == "." and "," in bare:
            return "not a number (a comma, where `decimal` is a point)"
        if decimal == "," and "." in bare:
            return "not a number (a point, where `decimal` is a comma)"
    return "not a number"


def _writable(column: pa.Array) -> Column:
    """Arrow numbers as float64 that can be written to, NaN where there is none."""
    import pyarrow as pa

    return np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
