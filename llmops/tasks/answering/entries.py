"""Entries: what can be found. The answers of all rows and the passages of documents, each text once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.fields.hashing import normalise, row_id

FILE = "entries.jsonl"


@dataclass(frozen=True)
class Entry:
    """One entry of the index. `id` names its text, so that it stays the same from run to run."""

    id: str
    text: str
    source: str | None = None


def entry(text: str, source: str | None = None) -> Entry:
    """The entry of a text."""
    return Entry(row_id(text), text, source)


def collect(splits: Mapping[str, Sequence[Row]], passages: Iterable[Entry]) -> list[Entry]:
    """The answers of all splits (never their questions) in the order of the splits, then the passages. Texts that
    `normalise` makes equal are one entry, the first."""
    found: dict[str, Entry] = {}
    for rows in splits.values():
        for row in rows:
            found.setdefault(normalise(row["answer"]), entry(row["answer"], row.get("source")))
    for passage in passages:
        found.setdefault(normalise(passage.text), passage)
    return list(found.values())


def places(entries: Sequence[Entry]) -> dict[str, int]:
    """Normalised text -> the entry's number."""
    return {normalise(one.text): number for number, one in enumerate(entries)}


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Write one JSON object a line."""
    write_whole(path, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in entries))


def read_entries(path: Path) -> list[Entry]:
    """Read what `write_entries` wrote. Raises DataError when the file is missing or damaged."""
    try:
        # not splitlines: a text may hold line breaks that JSON leaves as they are
        lines = path.read_text(encoding="utf-8").split("\n")
        return [Entry(**json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError) as problem:
        raise DataError(f"the index cannot be read: {problem}", str(path), "make it again: llmops run CONFIG") from None


def read_rows(path: Path) -> list[Row]:
    """The rows of a split; none when there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
