"""What a row of a file about tables says: what came true, by the id of an answer or of a row, or whole rows.

| columns                                              | what it is                                                 |
|------------------------------------------------------|------------------------------------------------------------|
| `id` or the task's id column, and `outcome`,         | what came true of the request of that id: the id that came |
| `correction` or the target's name, and/or `rating`   | with the answer, or the row's own, which the request held  |
| all fields, and one of the three                     | a whole row with its outcome; with an id column it counts  |
|                                                      | for the request of that id where the log holds one         |

A row without an outcome has none yet; it is counted and left.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from llmops.core.protocols import Row, Task
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import BadCell, Kind
from llmops.fields.words import as_text
from llmops.stages.feedback import said

OUTCOMES = ("outcome", "correction")
IDENT = kind_of(FieldSection(kind="id"))


def expected(section: Any) -> str:
    """What a file may hold."""
    return (
        f"give a CSV, JSONL or Parquet file with `id` (or `{section.id or 'the column of task.id'}`) and `outcome` (or "
        f"`{section.target}`), or with all of the task's fields and `{section.target}`"
    )


def parser(columns: Sequence[str], task: Task, section: Any) -> said.Parse | None:
    """What reads a row of such a file; None when its columns are none that outcomes are made of."""
    inputs, target = task.inputs(section), task.reads(section)[section.target]
    told = [name for name in columns if name not in inputs]  # a field may be called `outcome` too
    outcome = next((name for name in (*OUTCOMES, section.target) if name in told), None)
    ids = [name for name in ("id", section.id) if name in told]
    if outcome is not None and all(name in columns for name in inputs):
        own = section.id if section.id in columns else None
        return lambda row, origin: _whole(row, origin, outcome, own, inputs, target, section)
    if ids and (outcome is not None or "rating" in told):
        return lambda row, origin: _about(row, origin, ids[0], outcome, target)
    return None


def _about(row: Row, origin: str, column: str, outcome: str | None, target: Kind) -> said.Said | str | None:
    """What came true of a logged request."""
    place = column
    try:
        key = IDENT.read(row.get(column))
        place = "rating"
        rating = as_text(row.get("rating") or "").strip().lower()
        place = str(outcome)
        came = _came(target, row.get(outcome)) if outcome is not None else None
    except BadCell as error:
        return f"{place}: {error}"
    if key is None:
        return f"the {column} is missing"
    if rating and rating not in said.RATINGS:
        return f"the rating is `{rating}`; it must be 1 or -1"
    if came is None and not rating:
        return None
    return said.Said(origin, key, said.RATINGS[rating] if rating else None, came, own=key)


def _whole(
    row: Row, origin: str, outcome: str, own: str | None, inputs: Mapping[str, Kind], target: Kind, section: Any
) -> said.Said | str | None:
    """A row with its outcome, as the request that it would have been. Without an id two rows that agree in all but the
    outcome are two rows."""
    told, place = [], ""
    try:
        for name, kind in inputs.items():
            place = name
            told.append(f"{name}={kind.key(kind.read(row.get(name)))}")
        place = outcome
        came = _came(target, row.get(outcome))
        place = own or ""
        key = None if own is None else IDENT.read(row.get(own))
    except BadCell as error:
        return f"{place}: {error}"
    if came is None:
        return None
    request = {name: row.get(name) for name in inputs} | ({} if own is None or key is None else {own: key})
    made = str(uuid.uuid5(said.NAMESPACE, "\0".join([*told, came if key is None else f"id={key}"])))
    return said.Said(origin, made, None, came, request, own=key)


def _came(target: Kind, cell: Any) -> str | None:
    """An outcome as text: of a number its digits, of a class its name."""
    value = target.read(cell)
    return None if value is None else as_text(value)
