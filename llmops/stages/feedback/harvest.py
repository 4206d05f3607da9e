"""Harvest: corrections become training rows, in a file that grows and never takes a row of the test set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.records.hashing import normalise, row_id
from llmops.records.redaction import KINDS, redact
from llmops.records.trafficreader import Judged

Row = dict[str, Any]
LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""Line breaks that JSON leaves as they are; escaped, every reader of lines sees one row a line."""


@dataclass(frozen=True)
class Harvest:
    """The rows of the harvest file, and why corrections were left out."""

    rows: list[Row]
    added: int
    """Rows whose text was not in the file before."""
    in_test: int
    """Corrections of texts that are in the test set; training on them would make the test a lie."""
    without_text: int
    """Corrections of requests whose text the log did not keep."""

    def new_labels(self, known: Iterable[str]) -> list[tuple[str, int]]:
        """Labels of the harvest that are not `known`, with their rows, the most frequent first."""
        classes = set(known)
        return Counter(row["label"] for row in self.rows if row["label"] not in classes).most_common()

    def learned_until(self, rows: int) -> float:
        """The time of the latest correction among the first `rows`, which a champion was trained with; 0 for none."""
        return max((float(row["at"]) for row in self.rows[:rows]), default=0.0)


def gather(before: Sequence[Row], judged: Sequence[Judged], test_texts: Iterable[str]) -> Harvest:
    """The rows of `before` and the corrections among `judged` (oldest word first), one row a text.

    Texts count as the same when `normalise` makes them equal, and the latest correction of a text wins. The
    log's texts are redacted, so a test row is recognised by its redacted text too.
    """
    sealed = {key for text in test_texts for key in (normalise(text), normalise(redact(text, KINDS)))}
    kept = {normalise(row["text"]): row for row in before if normalise(row["text"]) not in sealed}
    old = set(kept)
    in_test = without_text = 0
    for row in judged:
        if row.correction is None:
            continue
        if row.text is None or not row.text.strip():
            without_text += 1
            continue
        key = normalise(row.text)
        if key in sealed:
            in_test += 1
        elif key not in kept or kept[key]["at"] <= row.said_at:
            kept[key] = _as_row(row, row.text)
    return Harvest(list(kept.values()), len(set(kept) - old), in_test, without_text)


def _as_row(said: Judged, text: str) -> Row:
    return {"id": row_id(text), "text": text, "label": said.correction, "at": said.said_at, "request_id": said.id}


def read(path: Path) -> list[Row]:
    """The rows of the harvest file; none when it is not there. Raises DataError with file:line for a bad row."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the harvest cannot be read: {error}", str(path), "restore it, or move it away") from error
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replace the harvest file, whole or not at all; left alone when nothing changed, for `prepare` reads it."""
    content = "".join(json.dumps(row, ensure_ascii=False).translate(LINE_BREAKS) + "\n" for row in rows)
    before = path.read_bytes() if path.exists() else b""
    if before != content.encode():
        write_whole(path, content)


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
        if not (isinstance(row["text"], str) and isinstance(row["label"], str) and isinstance(row["at"], (int, float))):
            raise TypeError("text and label must be texts, at a number")
    except (ValueError, KeyError, TypeError) as error:
        do = "mend or remove the line; corrections that are still in the traffic log come back by themselves"
        raise DataError(f"this is no row of the harvest: {error!r}", where, do) from error
    return dict(row)
