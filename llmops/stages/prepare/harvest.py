"""Rows that feedback harvested: corrections by people, which join train and valid, never test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Places, Row, Rows, Task
from llmops.fields.rows import Columned, Listed
from llmops.records.tables import typed


def harvest_file(places: Places) -> Path:
    """Where `feedback` leaves its rows for the next prepare."""
    return places.traffic / "harvest.jsonl"


NOTES = ("id", "at", "request_id")
"""What feedback notes down about a row for itself; a data set's row has its own id."""


def read_harvest(path: Path, names: Sequence[str]) -> list[Row]:
    """Examples with all of the task's fields and their "origin", in the order of the file; none when there is no file.

    `names` are the fields that every row needs. Raises DataError when a line is broken: llmops writes this file
    itself, whole or not at all.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = {name: value for name, value in json.loads(line).items() if name not in NOTES}
            row.update({name: row[name] for name in names})
            rows.append({**row, "origin": f"{path.name}:{number}"})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{path.name} is damaged.",
                where=f"{path}:{number}",
                do="delete it and run `llmops feedback CONFIG`, which writes it anew from the traffic log",
            ) from None
    return rows


def harvest_rows(task: Task, section: Any, found: list[Row], like: Rows) -> Rows:
    """What was harvested, as rows of the kind that the sources' are."""
    return typed(found, task.inputs(section), like) if isinstance(like, Columned) else Listed(found)
