"""Reads the user's file of synonyms."""

from __future__ import annotations

from pathlib import Path

from llmops.core.errors import DataError
from llmops.fields.rewording import Synonyms
from llmops.records.config import SourceSection
from llmops.records.csvreader import read_csv


def read_synonyms(path: Path, name: str) -> Synonyms:
    """Word -> synonyms, from a CSV with the columns word and synonym. Raises DataError when it is not such a file."""
    reading = read_csv(path, name, SourceSection(path=name))
    reading.require(["word", "synonym"])
    found: Synonyms = {}
    for row, _ in reading:
        found.setdefault(row["word"].strip().casefold(), []).append(row["synonym"].strip())
    if not found:
        raise DataError(f"{name} has no synonyms.", where=name, do="write `word,synonym` and one pair a line below it")
    return found
