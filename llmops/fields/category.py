"""The kind category: one of a set of values, whose names say nothing but which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.report import Number
from llmops.fields import mixes
from llmops.fields.kind import Column, Drifted, ReadColumn
from llmops.fields.words import ABSENT, Wordy, read_distinct

if TYPE_CHECKING:
    import pyarrow as pa

LISTED = 200
"""Values that a schema lists at most."""


class Category(Wordy):
    """See the module. White space inside counts as one space; case counts, for `m` and `M` may be two things."""

    name = "category"
    absent = ABSENT

    def written(self, cell: Any) -> str:
        """A code is the same whether it was read as 2 or as 2.0."""
        return " ".join(super().written(cell).split())

    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        """Dictionary-encoded."""
        import pyarrow as pa

        return read_distinct(cells, self.read, pa.dictionary(pa.int32(), pa.string()))

    def profile(self, values: Column) -> Mapping[str, Number]:
        return mixes.profile(values.tolist())

    def known(self, values: Column) -> dict[str, Any]:
        return mixes.known(values.tolist())

    def unseen(self, value: Any, known: Mapping[str, Any]) -> str | None:
        return mixes.unseen(value, known)

    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        return mixes.drift(name, old.tolist(), new.tolist(), rng)

    def schema_drift(self, name: str, old: Column, new: Column) -> list[str]:
        return mixes.schema_drift(name, old.tolist(), new.tolist())

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        values = list(known["values"])[:LISTED]
        few = len(known["values"]) <= LISTED
        return {
            "type": ["string", "null"], "x-control": "select" if few else "box", "x-values": values,
            "examples": values[:1],
        }  # fmt: skip
