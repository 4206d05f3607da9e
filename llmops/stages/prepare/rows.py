"""What the verbs of prepare hand on: dropped rows with the reason, and rows as the data set holds them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Row, Rows
from llmops.fields.rows import Columned, Listed, noted
from llmops.records.twins import identity
from llmops.stages.prepare.batch import Batch

OWN = ("twin", "group", "time")
"""Names that prepare needs on the way and the data set does not hold."""
WHOLE = 1000
"""Dropped rows of a table that are written whole, of each reason; of the others their origin is enough."""


@dataclass
class Dropped:
    """Every row that does not reach the data set, with its reason, in the order in which they went."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def drop(self, row: Row, reason: str, **more: Any) -> None:
        """Note a row that goes; `more` stands beside it in dropped.jsonl (the twin that stays, the label that won)."""
        kept = {name: value for name, value in row.items() if name not in OWN}
        self._counts[reason] += 1
        self.rows.append({"reason": reason, **kept, **more})

    def drop_all(
        self, batch: Batch, places: Iterable[int], reason: str, more: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Note the rows at these places; `more` holds what stands beside each."""
        at = list(places)
        whole = at[: max(0, WHOLE - self._counts[reason])] if isinstance(batch.rows, Columned) else at
        beside = more or [{}] * len(at)
        for row, told in zip(batch.rows.take(whole), beside, strict=False):
            self.drop(row, reason, **told)
        if rest := at[len(whole) :]:
            origins = batch.rows.take(rest).values("origin")
            self._counts[reason] += len(rest)
            told_of_rest = zip(origins, beside[len(whole) :], strict=True)
            self.rows += [{"reason": reason, "origin": origin, **told} for origin, told in told_of_rest]

    def by_reason(self) -> dict[str, int]:
        """How many went for each reason, the most frequent first."""
        return dict(self._counts.most_common())

    def write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in self.rows)


def finished(batch: Batch) -> Rows:
    """Rows as the data set holds them: with their ids, without what only prepare needs."""
    if not isinstance(batch.rows, Columned):
        return Listed([finished_row(row) for row in batch.rows])
    table = batch.rows.table
    table = table.drop_columns([noted(name) for name in OWN if noted(name) in table.column_names])
    return Columned(table).with_values("id", np.char.mod("%016x", batch.twins))


def finished_row(row: Row) -> Row:
    """One row with its id."""
    return {"id": identity(row), **{name: value for name, value in row.items() if name not in OWN}}
