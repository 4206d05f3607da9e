"""`llmops feedback CONFIG --import FILE`: feedback gathered elsewhere goes into the traffic log.

What rows may say stands in said.py. Importing a file twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from llmops.core.errors import DataError, Mistake
from llmops.core.protocols import Places, Task
from llmops.core.section import Section
from llmops.fields.redaction import KINDS, redact
from llmops.records.readers import read
from llmops.records.traffic import TrafficLog
from llmops.records.trafficreader import TrafficReader
from llmops.stages.feedback.said import Said, expected, parser

SHOWN = 20
"""Mistakes of one file that are told at once."""
BY = "import"


class Home(Protocol):
    """What is asked of a project."""

    @property
    def places(self) -> Places: ...
    @property
    def sections(self) -> Mapping[str, Section]: ...
    @property
    def task(self) -> Task: ...


def import_file(project: Home, file: Path) -> str:
    """Take in a file and say in one line what was taken. Raises DataError: the file cannot be read, a row is bad
    (all are told, with file:line; nothing is imported then), the log knows none of the ids, or it keeps no texts and
    could not hold what is to be learnt."""
    said = _read(file, project.task, project.sections["task"])
    deploy: Any = project.sections["deploy"]
    prose = project.task.runtime == "stepper"
    if not deploy.log_text and not project.task.labelled and any(row.correction for row in said):
        do = "set `deploy.log_text: true`, or add the file to prepare.sources"
        raise DataError("the traffic log keeps no texts, so it cannot hold right answers", str(file), do)
    if prose and deploy.redact_log:
        said = [replace(row, correction=row.correction and redact(row.correction, KINDS)) for row in said]
    path = project.places.traffic / "traffic.db"
    with TrafficLog(path, deploy.keep_traffic_days, deploy.log_text, deploy.redact_log, queue=len(said) * 2 + 1) as log:
        known = [row for row in said if row.text is not None or log.knows(row.id)]
        if not known:
            do = "send the ids that came with the answers, or rows with the right answer instead"
            raise DataError(f"the traffic log knows none of the {len(said)} ids", said[0].origin, do)
        fresh = _fresh(path, known)
        _log(log, fresh, prose)
    unknown = f"; {len(said) - len(known)} ids are not in the log (any more)" if len(said) > len(known) else ""
    return f"imported {_rows(len(fresh), 'row')} of {file.name}; {len(known) - len(fresh)} were there already{unknown}"


def _log(log: TrafficLog, fresh: Sequence[Said], prose: bool) -> None:
    for row in fresh:
        if row.text is not None:
            log.record(
                row.id, version=None, text=row.text, request=row.request, response=row.response, label=None,
                probability=None, abstained=False, latency_ms=None, source=BY, prose=prose,
            )  # fmt: skip
        log.feedback(row.id, row.rating, row.correction, by=BY, prose=prose)


def _read(file: Path, task: Task, section: Any) -> list[Said]:
    columns = ("text", "label") if task.labelled else task.columns(section)
    reading = read(str(file.resolve()), file.parent, columns)
    parse, do = parser(reading, task, section), expected(task)
    said: list[Said] = []
    mistakes: list[Mistake] = []
    for row, origin in reading:
        parsed = parse(row, origin)
        if isinstance(parsed, Said):
            said.append(parsed)
        else:
            mistakes.append(Mistake(parsed, origin, do=do))
    mistakes += [Mistake(f"{bad.reason}: {bad.detail or bad.text}", bad.origin) for bad in reading.bad]
    if mistakes:
        error = DataError(f"{file.name} has {_rows(len(mistakes), 'bad row')}; nothing was imported", str(file))
        more = Mistake(f"{len(mistakes) - SHOWN} more rows are bad", str(file))
        error.mistakes += (*mistakes[:SHOWN], *([more] if len(mistakes) > SHOWN else []))
        raise error
    if not said:
        raise DataError(f"{file.name} has no rows", str(file), do)
    return said


def _rows(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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
