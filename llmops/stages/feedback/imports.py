"""`llmops feedback CONFIG --import FILE`: feedback gathered elsewhere goes into the traffic log.

What rows may say stands in opinionfile.py and outcomefile.py. Importing a file twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from llmops.core.errors import DataError, Mistake, UsageError
from llmops.core.protocols import Places, Task
from llmops.core.protocols.task import CLASSED
from llmops.core.section import Section
from llmops.fields.redaction import KINDS, redact
from llmops.records.readers import read
from llmops.records.traffic import TrafficLog
from llmops.records.trafficreader import TrafficReader
from llmops.stages.feedback.matching import find, too_old
from llmops.stages.feedback.opinionfile import expected, parser
from llmops.stages.feedback.said import Said

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
    (all are told, with file:line; nothing is imported then), the log knows none of the ids, or it keeps no contents and
    could not hold what is to be learnt."""
    task, section = project.task, project.sections["task"]
    said, later = _read(file, task, section)
    deploy: Any = project.sections["deploy"]
    prose = task.runtime == "stepper"
    teaches = [
        row for row in said if row.correction and (row.request is not None or task.predicts(section) == "nothing")
    ]
    if not deploy.log_text and teaches and (task.columned or task.predicts(section) == "nothing"):
        do = "set `deploy.log_text: true`, or add the file to prepare.sources"
        raise DataError("the traffic log keeps no contents, so it cannot hold right answers", str(file), do)
    if prose and deploy.redact_log:
        said = [replace(row, correction=row.correction and redact(row.correction, KINDS)) for row in said]
    path = project.places.traffic / "traffic.db"
    with TrafficLog(path, deploy.keep_traffic_days, deploy.log_text, deploy.redact_log, queue=len(said) * 2 + 1) as log:
        old = too_old(path, deploy.keep_traffic_days)
        found = find(log, path, said, getattr(section, "id", None) if task.columned else None, old)
        if not found.rows:
            do = "send the ids that came with the answers, or rows with the right answer instead"
            what = f"the traffic log knows none of the {len(said)} ids"
            raise DataError(what + (found.why(deploy) if task.columned else ""), said[0].origin, do)
        last = _last_words(found.rows)
        fresh = _fresh(path, last)
        gone = _log(log, fresh, prose)
    found = replace(found, unknown=found.unknown + gone)
    told = f"imported {_rows(len(fresh) - gone, 'row')} of {file.name}; {len(last) - len(fresh)} were there already"
    told += f"; {found.unknown} ids are not in the log (any more)" if found.unknown else ""
    told += found.why(deploy) if task.columned else ""
    if again := len(found.rows) - len(last):
        told += f"; {_rows(again, 'row')} spoke of the same as {'another' if again == 1 else 'others'}: the last counts"
    if task.columned:
        told += f"; {found.asked_again} ids were asked about more than once: the newest" if found.asked_again else ""
        told += _by_version(path, last) + (f"; {_rows(later, 'row')} without an outcome yet" if later else "")
    return told


def _by_version(path: Path, rows: Sequence[Said]) -> str:
    """How many rows are about answers of each version."""
    about = {row.id for row in rows if row.request is None}
    with TrafficReader(path) as reader:
        counts = Counter(row.version for row in reader.judged() if row.id in about and row.version is not None)
    told = ", ".join(f"{count:,} of version {version}" for version, count in sorted(counts.items()))
    whole = len(rows) - sum(row.request is None for row in rows)
    return (f"; outcomes of answers: {told}" if told else "") + (f"; {whole:,} whole rows" if whole else "")


def _log(log: TrafficLog, fresh: Sequence[Said], prose: bool) -> int:
    """Write the rows; returns how many are about requests that the log has forgotten meanwhile."""
    gone = 0
    for row in fresh:
        if row.request is not None:
            log.record(
                row.id, version=None, request=row.request, response=row.response, label=None, probability=None,
                abstained=False, latency_ms=None, source=BY, prose=prose,
            )  # fmt: skip
        try:
            log.feedback(row.id, row.rating, row.correction, by=BY, prose=prose)
        except UsageError:
            gone += 1
    return gone


def _read(file: Path, task: Task, section: Any) -> tuple[list[Said], int]:
    """The rows that say something, and how many have no outcome yet."""
    labelled = task.predicts(section) in CLASSED and not task.columned
    columns = () if task.columned else ("text", "label") if labelled else task.columns(section)
    reading = read(str(file.resolve()), file.parent, columns)
    parse, do = parser(reading, task, section), expected(task, section)
    said: list[Said] = []
    mistakes: list[Mistake] = []
    later = 0
    for row, origin in reading:
        parsed = parse(row, origin)
        if isinstance(parsed, str):
            mistakes.append(Mistake(parsed, origin, do=do))
        elif parsed is None:
            later += 1
        else:
            said.append(parsed)
    mistakes += [Mistake(f"{bad.reason}: {bad.detail or bad.text}", bad.origin) for bad in reading.bad]
    if mistakes:
        error = DataError(f"{file.name} has {_rows(len(mistakes), 'bad row')}; nothing was imported", str(file))
        more = Mistake(f"{len(mistakes) - SHOWN} more rows are bad", str(file))
        error.mistakes += (*mistakes[:SHOWN], *([more] if len(mistakes) > SHOWN else []))
        raise error
    if not said:
        raise DataError(f"{file.name} has no rows" + (" with an outcome" if later else ""), str(file), do)
    return said, later


def _rows(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _last_words(said: Sequence[Said]) -> list[Said]:
    """One row for each request that is spoken about, with the last rating and the last correction."""
    last: dict[str, Said] = {}
    for row in said:
        before = last.get(row.id, row)
        last[row.id] = replace(row, rating=row.rating or before.rating, correction=row.correction or before.correction)
    return list(last.values())


def _fresh(path: Path, said: Sequence[Said]) -> list[Said]:
    """Rows that say something that the log does not hold yet."""
    with TrafficReader(path) as reader:
        held = {row.id: (row.rating, row.correction) for row in reader.judged()}
    return [row for row in said if _is_news(row, *held.get(row.id, (None, None)))]


def _is_news(row: Said, rating: int | None, correction: str | None) -> bool:
    return (row.rating or rating, row.correction or correction) != (rating, correction)
