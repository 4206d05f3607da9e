"""What the verbs of prepare hand on: kept rows, and dropped ones with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops.core.protocols import Row
from llmops.records.twins import identity

OWN = ("key", "votes", "group", "time", "twin")
"""Names that prepare needs on the way and the data set does not hold."""


@dataclass
class Dropped:
    """Every row that does not reach the data set, with its reason, in the order in which they went."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, row: Row, reason: str, **more: Any) -> None:
        """Note a row that goes; `more` stands beside it in dropped.jsonl (the twin that stays, the label that won)."""
        kept = {name: value for name, value in row.items() if name not in OWN}
        self.rows.append({"reason": reason, **kept, **more})

    def by_reason(self) -> dict[str, int]:
        """How many went for each reason, the most frequent first."""
        return dict(Counter(row["reason"] for row in self.rows).most_common())

    def write(self, path: Path) -> None:
        write_jsonl(path, self.rows)


def finished(row: Row) -> Row:
    """A row as the data set holds it: with its id, without what only prepare needs."""
    return {"id": identity(row), **{name: value for name, value in row.items() if name not in OWN}}


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, UTF-8."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
