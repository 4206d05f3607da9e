"""Examples: the rows of all sources as the task understands them, and the schema check: what is bad is counted by
reason, too much of it stops, and, where a row has one label, lists of them are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row, Rows, Task
from llmops.fields.rows import Listed
from llmops.records.config import SourceSection, as_source
from llmops.records.joinedlabels import Joined, find_joined
from llmops.records.readers import read
from llmops.records.reading import EXCERPT, BadRow, Reading

REASONS_TOLD = 8  # of a refusal; dropped.jsonl has the others
Reader = Callable[[Row, str], Row | str]
"""Makes an example of a source's row and its origin; or says in words why the row is bad."""


@dataclass(frozen=True)
class SourceNote:
    """What was found out about one source: rows read (bad ones included), its encoding when it is a text file, the
    columns of a table that nobody asked for, and, of a table that joins, how many rows find nothing in it."""

    name: str
    rows: int
    bad: int
    encoding: str | None
    encoding_found: bool
    delimiter: str | None
    unused: tuple[str, ...] = ()
    unmatched: int = 0


@dataclass
class Examples:
    """`rows` are the task's examples, each with its "origin" and the extra columns that were asked for; `joined` tells,
    where a row has one label, that some look like several."""

    rows: Rows = field(default_factory=lambda: Listed([]))
    bad: list[BadRow] = field(default_factory=list)
    notes: list[SourceNote] = field(default_factory=list)
    joined: Joined | None = None

    @property
    def read(self) -> int:
        """Rows read, bad ones included."""
        return len(self.rows) + len(self.bad)

    def bad_by_reason(self) -> dict[str, int]:
        """How many rows are bad for each reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.bad).most_common())


def load_examples(
    sources: Sequence[str | SourceSection],
    root: Path,
    task: Task,
    section: Any,
    max_bad_rows: float = 0.05,
    extra: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Examples:
    """All examples of `sources`, in the order of the files.

    Rows need the columns that the task names; a task that names none recognises each row by its shape, and rows of a
    task that is `columned` are read as columns (tables.py). `section` is the task's; `extra` maps names to columns that
    examples carry besides the task's own (group, time); `limit` stops each source after so many rows, for a look at the
    data. Raises DataError when a source is missing, empty or unreadable, lacks a column, carries lists of labels where
    a row has one, or when the share of bad rows is above `max_bad_rows`.
    """
    if task.columned:
        found = _load_columns(sources, root, task, section, extra or {}, limit)
    else:
        found = _load_rows(sources, root, task.columns(section), _labelled(task, section), extra or {}, limit)
    _refuse(found, max_bad_rows)
    if task.settles and task.predicts(section) == "class":
        found.joined = find_joined(Counter(map(str, found.rows.values("label"))))
    return found


def load_texts(
    sources: Sequence[str | SourceSection], root: Path, task: Any, section: Any, max_bad_rows: float
) -> Examples:
    """The texts of `sources`, whose rows need no label: only the column of the text is read, and plain text (.txt, .md)
    has a text a line where the source does not say otherwise. Raises DataError as `load_examples` does."""
    lines = [source if "rows" in source.model_fields_set else source.model_copy(update={"rows": "lines"})
             for source in map(as_source, sources)]  # fmt: skip
    column = task.columns(section)[0]
    found = _load_rows(lines, root, (column,), lambda row, origin: task.unlabelled(section, row), {}, None)
    _refuse(found, max_bad_rows)
    return found


def _load_columns(
    sources: Sequence[str | SourceSection],
    root: Path,
    task: Task,
    section: Any,
    extra: Mapping[str, str],
    limit: int | None,
) -> Examples:
    from llmops.records.tables import load_tables

    rows, bad, readings = load_tables(sources, root, task, section, extra, limit)
    asked = {*task.columns(section), *extra.values(), *(as_source(source).join for source in sources)}
    notes = [
        SourceNote(
            one.name, reading.rows, len(reading.bad), one.encoding, one.encoding_found, one.delimiter,
            tuple(name for name in one.columns or () if name not in asked), reading.unmatched,
        )
        for reading in readings
        for one in [reading.reading]
    ]  # fmt: skip
    return Examples(rows, bad, notes)


def _labelled(task: Task, section: Any) -> Reader:
    """How a row with its label becomes an example."""
    columns, one = task.columns(section), task.settles and task.predicts(section) == "class"

    def read_row(row: Row, origin: str) -> Row | str:
        if one:
            _refuse_lists(row.get(columns[-1]), columns[-1], origin)
        return task.example(section, row)

    return read_row


def _load_rows(
    sources: Sequence[str | SourceSection],
    root: Path,
    columns: tuple[str, ...],
    example: Reader,
    extra: Mapping[str, str],
    limit: int | None,
) -> Examples:
    found = Examples()
    rows: list[Row] = []
    for source in sources:
        rows += _load(found, as_source(source), root, columns, example, extra, limit)
    found.rows = Listed(rows)
    return found


def _load(
    found: Examples,
    source: SourceSection,
    root: Path,
    columns: tuple[str, ...],
    example: Reader,
    extra: Mapping[str, str],
    limit: int | None,
) -> list[Row]:
    reading = read(source, root, columns)
    reading.require([*columns, *extra.values()])
    rows: list[Row] = []
    before = len(found.bad)
    for row, origin in islice(reading, limit):
        made = example(row, origin)
        if isinstance(made, str):
            reason, _, detail = made.partition("; ")
            found.bad.append(BadRow(origin, reason, detail, _excerpt(row, columns)))
        else:
            kept = {name: row[name] for name in reading.carries}
            asked = {name: row.get(column) for name, column in extra.items()}
            rows.append({**kept, **made, **asked, "origin": origin})
    found.bad.extend(reading.bad)
    found.notes.append(_note(reading, len(rows) + len(found.bad) - before))
    return rows


def _excerpt(row: Row, columns: Sequence[str]) -> str:
    """The beginning of a bad row's text; of the whole row where no column is known to hold one."""
    text = str(row.get(columns[0], "")) if columns else json.dumps(row, ensure_ascii=False, default=str)
    return text[:EXCERPT]


def _note(reading: Reading, rows: int) -> SourceNote:
    return SourceNote(reading.name, rows, len(reading.bad), reading.encoding, reading.encoding_found, reading.delimiter)


def _refuse(found: Examples, most: float) -> None:
    """Raises DataError where there is no row, or too many are bad."""
    names = ", ".join(note.name for note in found.notes)
    if not found.read:
        raise DataError(
            f"there is not one row in {names}.", where=names, do="export the data again; only the header is there"
        )
    share = len(found.bad) / found.read
    if share <= most and found.rows:
        return
    told = [f"{reason} {n:,}" for reason, n in found.bad_by_reason().items()]
    more = f", and {len(told) - REASONS_TOLD} other reasons" if len(told) > REASONS_TOLD else ""
    reasons = ", ".join(told[:REASONS_TOLD]) + more
    shown = "\n".join(f"{row.origin}  {row.reason}{': ' + row.detail if row.detail else ''}" for row in found.bad[:3])
    raise DataError(
        f"{len(found.bad):,} of {found.read:,} rows are bad ({share:.1%}, allowed {most:.1%}): {reasons}.",
        where=found.bad[0].origin if found.bad else names,
        do="mend the file, or raise `prepare.max_bad_rows` to go on without these rows",
        snippet=shown,
    )


def _refuse_lists(label: Any, column: str, origin: str) -> None:
    if isinstance(label, (list, tuple, set)):
        raise DataError(
            f"`{column}` is a list of labels: {str(list(label))[:80]}.",
            where=origin,
            do="write `labels: many` in `task:`, or keep one label a row: the most important one",
        )


def refuse_one_class(labels: Sequence[Sequence[str]], where: str, dropped: str) -> None:
    """Raise DataError unless the labels of the rows to train on differ: two classes or more, or, where rows have
    several labels or none, at least one that only some have. `dropped` says in words what went before."""
    if len(set(map(tuple, labels))) > 1:
        return
    if not labels:
        only = "are no rows"
    elif len(labels[0]) == 1:
        only = f"is only the class `{labels[0][0]}`"
    else:
        only = f"is nothing to tell apart (every row has {' and '.join(labels[0]) or 'no label'})"
    raise DataError(
        f"there {only} to train on; a classifier needs at least two classes ({dropped}).",
        where=where,
        do="check `task.label` (of a table `task.target`): is it the column with the classes?",
    )
