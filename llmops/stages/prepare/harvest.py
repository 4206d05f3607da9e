"""Rows that feedback harvested: corrections by people, which join train and valid, never test."""

from __future__ import annotations

import json
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Places, Row


def harvest_file(places: Places) -> Path:
    """Where `feedback` leaves its rows for the next prepare."""
    return places.traffic / "harvest.jsonl"


def read_harvest(path: Path) -> list[Row]:
    """Rows {"text", "label", "origin", "request_id"} in the order of the file; none when there is no file.

    Raises DataError when a line is broken: llmops writes this file itself, whole or not at all.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({"text": str(row["text"]), "label": str(row["label"]), "origin": f"{path.name}:{number}"})
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path.name} is damaged.",
                where=f"{path}:{number}",
                do="delete it and run `llmops feedback CONFIG`, which writes it anew from the traffic log",
            ) from None
    return rows
