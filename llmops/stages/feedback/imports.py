"""`llmops feedback CONFIG --import FILE`: feedback gathered elsewhere goes into the traffic log.

A CSV or JSONL file with either `text,label` (the task's own column names do as well) or `id` with `rating`
and/or `correction`. Importing a file twice changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops.core.errors import DataError, Mistake
from llmops.core.protocols import Places, Row
from llmops.core.section import Section
from llmops.records.hashing import normalise
from llmops.records.readers import read
from llmops.records.reading import Reading
from llmops.records.redaction import KINDS, redact
from llmops.records.traffic import TrafficLog
from llmops.records.trafficreader import TrafficReader

SHOWN = 20
"""Mistakes of one file that are told at once."""
BY = "import"
NAMESPACE = uuid.UUID("6f7ac4a5-3f0e-5f3b-9d8c-0f6f5b2f7a11")
RATINGS = {"1": 1, "+1": 1, "1.0": 1, "up": 1, "true": 1, "-1": -1, "-1.0": -1, "0": -1, "down": -1, "false": -1}
EXPECTED = "give a CSV or JSONL file with the columns text and label, or id with rating and/or correction"


class Home(Protocol):
    """What is asked of a project."""

    @property
    def places(self) -> Places: ...
    @property
    def sections(self) -> Mapping[str, Section]: ...


@dataclass(frozen=True)
class Said:
    """One good row of the file; `text` is None when it speaks about a logged request."""

    origin: str
    id: str
    text: str | None
    rating: int | None
    correction: str | None


def import_file(project: Home, file: Path) -> str:
    """Take in a file and say in one line what was taken. Raises DataError: the file cannot be read, a row is bad
    (all are told, with file:line; nothing is imported then), or the log knows none of the ids."""
    said = _read(file, project.sections["task"])
    deploy: Any = project.sections["deploy"]
    path = project.places.traffic / "traffic.db"
    with TrafficLog(path, deploy.keep_traffic_days, deploy.log_text, deploy.redact_log, queue=len(said) * 2 + 1) as log:
        known = [row for row in said if row.text is not None or log.knows(row.id)]
        if not known:
            do = "send the ids that came with the answers, or give text and label instead"
            raise DataError(f"the traffic log knows none of the {len(said)} ids", said[0].origin, do)
        fresh = _fresh(path, known)
        for row in fresh:
            if row.text is not None:
                log.record(
                    row.id, version=None, text=row.text, request=None, response=None, label=None, probability=None,
                    abstained=False, latency_ms=None, source=BY,
                )  # fmt: skip
            log.feedback(row.id, row.rating, row.correction, by=BY)
    unknown = f"; {len(said) - len(known)} ids are not in the log (any more)" if len(said) > len(known) else ""
    return f"imported {_rows(len(fresh), 'row')} of {file.name}; {len(known) - len(fresh)} were there already{unknown}"


def _read(file: Path, task: Section) -> list[Said]:
    reading = read(str(file.resolve()), file.parent)
    parse = _parser(reading, task)
    said: list[Said] = []
    mistakes: list[Mistake] = []
    for row, origin in reading:
        parsed = parse(row, origin)
        if isinstance(parsed, Said):
            said.append(parsed)
        else:
            mistakes.append(Mistake(parsed, origin, do=EXPECTED))
    mistakes += [Mistake(f"{bad.reason}: {bad.detail or bad.text}", bad.origin) for bad in reading.bad]
    if mistakes:
        error = DataError(f"{file.name} has {_rows(len(mistakes), 'bad row')}; nothing was imported", str(file))
        more = Mistake(f"{len(mistakes) - SHOWN} more rows are bad", str(file))
        error.mistakes += (*mistakes[:SHOWN], *([more] if len(mistakes) > SHOWN else []))
        raise error
    if not said:
        raise DataError(f"{file.name} has no rows", str(file), EXPECTED)
    return said


def _parser(reading: Reading, task: Section) -> Callable[[Row, str], Said | str]:
    """What reads a row of this file, by its columns."""
    columns = reading.columns or []
    if "id" in columns and ("rating" in columns or "correction" in columns):
        return _about_request
    for text, label in (("text", "label"), (getattr(task, "text", "text"), getattr(task, "label", "label"))):
        if text in columns and label in columns:
            return lambda row, origin: _example(row.get(text), row.get(label), origin)
    shown = ", ".join(columns) or "none"
    what = f"{reading.name} has no columns that feedback is made of; it has {shown}"
    raise DataError(what, f"{reading.name}:1", EXPECTED)


def _about_request(row: Row, origin: str) -> Said | str:
    request, rating, correction = (_cell(row.get(name)) for name in ("id", "rating", "correction"))
    if not request:
        return "the id is missing"
    if rating and rating.lower() not in RATINGS:
        return f"the rating is `{rating}`; it must be 1 or -1"
    if not rating and not correction:
        return "there is neither a rating nor a correction"
    return Said(origin, request, None, RATINGS[rating.lower()] if rating else None, correction or None)


def _example(text: Any, label: Any, origin: str) -> Said | str:
    text, label = _cell(text), _cell(label)
    if not text or not label:
        return "the text is missing" if not text else "the label is missing"
    # The log's text is redacted; so the id must not depend on whether it is.
    return Said(origin, str(uuid.uuid5(NAMESPACE, normalise(redact(text, KINDS)))), text, None, label)


def _rows(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _fresh(path: Path, said: list[Said]) -> list[Said]:
    """Rows that say something that the log does not hold yet."""
    with TrafficReader(path) as reader:
        held = {row.id: (row.rating, row.correction) for row in reader.judged()}
    fresh = []
    for row in said:
        rating, correction = held.get(row.id, (None, None))
        if (row.rating or rating, row.correction or correction) != (rating, correction):
            fresh.append(row)
            held[row.id] = (row.rating or rating, row.correction or correction)
    return fresh
