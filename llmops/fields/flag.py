"""The kind flag: yes or no, in many languages."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.report import Number
from llmops.fields import mixes
from llmops.fields.kind import BadCell, Column, Drifted, ReadColumn
from llmops.fields.quantities import Quantity
from llmops.fields.words import ABSENT, as_text, one_array, read_distinct

if TYPE_CHECKING:
    import pyarrow as pa

YES = frozenset(
    """yes y true t 1 on ja j wahr si sí sì s oui o vrai sim verdadero verdadeiro vero tak da да evet doğru igen ano áno
    jah taip jā ναι joo kyllä tosi waar prawda pravda igaz sant sand sann истина так có ya ✓ ✔ 是 有 对 對 真 はい 예 네
    हाँ हां نعم بله כן""".split()
)
NO = frozenset(
    """no n false f 0 off nein falsch não nao non faux falso nee nej nei nie ne нет hayır hayir yanlış yanliş nem όχι ei
    nē epätosi onwaar fałsz nepravda hamis falskt falsk usann ложь ні không tidak ✗ ✘ 否 无 無 没有 沒有 错 錯 假 いいえ
    아니요 아니오 नहीं لا خیر לא""".split()
)
"""Those of spreadsheets among them, which write a formula's truth in their own language (WAHR, VRAI, ИСТИНА)."""


class Flag(Quantity):
    """See the module. `1.0` is yes, as tables write it whose flags lack some values."""

    name = "flag"

    def read(self, cell: Any) -> bool | None:
        """Raises BadCell for anything that is neither."""
        if cell is None or isinstance(cell, bool):
            return cell
        if isinstance(cell, float) and np.isnan(cell):
            return None
        folded = unicodedata.normalize("NFC", as_text(cell).strip().casefold()).removesuffix(".0")
        if folded in ABSENT or folded in self.missing:
            return None
        if folded in YES or folded in NO:
            return folded in YES
        raise BadCell("neither yes nor no")

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        import pyarrow as pa

        return read_distinct(cells, self.read, pa.bool_())

    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        import pyarrow as pa

        numbers = one_array(values).cast(pa.uint8()).cast(pa.float64())
        return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)

    def shown(self, value: float) -> str:
        return "yes" if value else "no"

    def profile(self, values: Column) -> Mapping[str, Number]:
        return mixes.profile(_words(values))

    def known(self, values: Column) -> dict[str, Any]:
        return mixes.known(_words(values))

    def unseen(self, value: Any, known: Mapping[str, Any]) -> str | None:
        return mixes.unseen(None if value is None else self.shown(float(value)), known)

    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        return mixes.drift(name, _words(old), _words(new), rng)

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        common = next(iter(known["values"]), "no")
        return {"type": ["boolean", "null"], "x-control": "switch", "examples": [common == "yes"]}


def _words(values: Column) -> list[str | None]:
    return [None if np.isnan(value) else "yes" if value else "no" for value in values.tolist()]
