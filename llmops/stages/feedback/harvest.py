"""Harvest: what users said becomes training rows, in a file that grows and never takes a row of the test set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Judged, Row
from llmops.fields.hashing import normalise
from llmops.fields.redaction import KINDS, redact
from llmops.records.twins import shape

Learn = Callable[[Judged], Row | None]
"""The row that an opinion becomes, as the task says; None when nothing can be learnt from it."""
LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""Line breaks that JSON leaves as they are; escaped, every reader of lines sees one row a line."""


@dataclass(frozen=True)
class Harvest:
    """The rows of the harvest file, and why opinions were left out."""

    rows: list[Row]
    added: int
    """Rows whose text was not in the file before."""
    in_test: int
    """Opinions on texts that are in the test set; training on them would make the test a lie."""
    without_text: int
    """Corrections of requests whose text the log did not keep."""

    def new_labels(self, known: Iterable[str]) -> list[tuple[str, int]]:
        """Labels of the harvest that are not `known`, with their rows, the most frequent first."""
        classes = set(known)
        found = Counter(row["label"] for row in self.rows if "label" in row and row["label"] not in classes)
        return found.most_common()

    def learned_until(self, rows: int) -> float:
        """The time of the latest word among the first `rows`, which a champion was trained with; 0 for none."""
        return max((float(row["at"]) for row in self.rows[:rows]), default=0.0)


def gather(before: Sequence[Row], judged: Sequence[Judged], test_texts: Iterable[str], learn: Learn) -> Harvest:
    """The rows of `before` and those that `learn` makes of `judged` (oldest word first), one row a text and kind.

    Texts count as the same when `normalise` makes them equal, and the latest word on a text wins; but a thumb does not
    take the place of a correction, and one that is turned down takes its row along. The log's texts are redacted, so a
    test row is recognised by its redacted text too.
    """
    sealed = {key for text in test_texts for key in (normalise(text), normalise(redact(text, KINDS)))}
    kept = {_key(row): row for row in before if normalise(row["text"]) not in sealed}
    old, corrected = set(kept), set()
    in_test = without_text = 0
    for said in judged:
        if said.correction is not None and not (said.text or "").strip():
            without_text += 1
            continue
        row = learn(said)
        if row is None:
            _take_back(kept, said)
            continue
        key = _key(row)
        if normalise(row["text"]) in sealed:
            in_test += 1
        elif said.correction is None and key in corrected:
            continue
        elif key not in kept or kept[key]["at"] <= row["at"]:
            kept[key] = row
            corrected.update([key] if said.correction is not None else [])
    return Harvest(list(kept.values()), len(set(kept) - old), in_test, without_text)


def _key(row: Row) -> tuple[frozenset[str], str]:
    """What rows have one of: the kind of thing that they teach, and the text that they teach it about."""
    return shape(row), normalise(row["text"])


def _take_back(kept: dict[tuple[frozenset[str], str], Row], said: Judged) -> None:
    """Remove the row of an answer that was liked before and is disliked now."""
    if said.correction is not None or said.rating is None or said.rating > 0:
        return
    for key in [key for key, row in kept.items() if row.get("request_id") == said.id]:
        del kept[key]


def read(path: Path, labelled: bool = False) -> list[Row]:
    """The rows of the harvest file; none when it is not there. Raises DataError with file:line for a bad row;
    `labelled` ones need a label."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the harvest cannot be read: {error}", str(path), "restore it, or move it away") from error
    return [_row(line, f"{path}:{number}", labelled) for number, line in enumerate(lines, 1) if line.strip()]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replace the harvest file, whole or not at all; left alone when nothing changed, for `prepare` reads it."""
    content = "".join(json.dumps(row, ensure_ascii=False).translate(LINE_BREAKS) + "\n" for row in rows)
    before = path.read_bytes() if path.exists() else b""
    if before != content.encode():
        write_whole(path, content)


def _row(line: str, where: str, labelled: bool) -> Row:
    try:
        row = json.loads(line)
        told = isinstance(row["label"] if labelled else row.get("label", ""), str)
        if not (told and isinstance(row["text"], str) and isinstance(row["at"], (int, float))):
            raise TypeError("text and label must be texts, at a number")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        do = "mend or remove the line; corrections that are still in the traffic log come back by themselves"
        raise DataError(f"this is no row of the harvest: {error!r}", where, do) from error
    return dict(row)
