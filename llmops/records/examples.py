"""Examples: the rows of all sources as the task understands them, and the schema check: what is bad is counted by
reason, too much of it stops, and, where a row has one label, rows with several are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row, Rows, Task
from llmops.fields.rows import Listed
from llmops.records.config import SourceSection, as_source
from llmops.records.readers import read
from llmops.records.reading import EXCERPT, BadRow, Reading

SEPARATORS = "|;"
REASONS_TOLD = 8  # of a refusal; dropped.jsonl has the others
CERTAIN_KINDS = 2  # different combinations of known labels, from which `a|b` is certain to mean two labels


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
    """`rows` are the task's examples, each with its "origin" and the extra columns that were asked for."""

    rows: Rows = field(default_factory=lambda: Listed([]))
    bad: list[BadRow] = field(default_factory=list)
    notes: list[SourceNote] = field(default_factory=list)

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
    data. Raises DataError when a source is missing, empty or unreadable, lacks a column, carries several labels a row,
    or when the share of bad rows is above `max_bad_rows`.
    """
    if task.columned:
        found = _load_columns(sources, root, task, section, extra or {}, limit)
    else:
        found = Examples()
        rows: list[Row] = []
        for source in sources:
            rows += _load(found, as_source(source), root, task, section, extra or {}, limit)
        found.rows = Listed(rows)
    names = ", ".join(note.name for note in found.notes)
    if not found.read:
        raise DataError(
            f"there is not one row in {names}.", where=names, do="export the data again; only the header is there"
        )
    _refuse_bad_share(found, names, max_bad_rows)
    if task.settles:
        _refuse_joined_labels(found.rows, names)
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


def _load(
    found: Examples,
    source: SourceSection,
    root: Path,
    task: Task,
    section: Any,
    extra: Mapping[str, str],
    limit: int | None,
) -> list[Row]:
    columns = task.columns(section)
    reading = read(source, root, columns)
    reading.require([*columns, *extra.values()])
    rows: list[Row] = []
    before = len(found.bad)
    for row, origin in islice(reading, limit):
        if task.settles:
            _refuse_lists(row.get(columns[-1]), origin)
        example = task.example(section, row)
        if isinstance(example, str):
            found.bad.append(BadRow(origin, example, "", _excerpt(row, columns)))
        else:
            kept = {name: row[name] for name in reading.carries}
            asked = {name: row.get(column) for name, column in extra.items()}
            rows.append({**kept, **example, **asked, "origin": origin})
    found.bad.extend(reading.bad)
    found.notes.append(_note(reading, len(rows) + len(found.bad) - before))
    return rows


def _excerpt(row: Row, columns: Sequence[str]) -> str:
    """The beginning of a bad row's text; of the whole row where no column is known to hold one."""
    text = str(row.get(columns[0], "")) if columns else json.dumps(row, ensure_ascii=False, default=str)
    return text[:EXCERPT]


def _note(reading: Reading, rows: int) -> SourceNote:
    return SourceNote(reading.name, rows, len(reading.bad), reading.encoding, reading.encoding_found, reading.delimiter)


def _refuse_bad_share(found: Examples, names: str, most: float) -> None:
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


def _refuse_lists(label: Any, origin: str) -> None:
    if isinstance(label, (list, tuple, set)):
        raise _several(f"the label is a list: {str(list(label))[:80]}", origin)


def _refuse_joined_labels(rows: Rows, names: str) -> None:
    """`billing|refund` is certain to mean two labels when its parts stand alone elsewhere, in several combinations."""
    labels = Counter(row["label"] for row in rows if isinstance(row.get("label"), str))
    for separator in SEPARATORS:
        joined = [label for label in labels if separator in label]
        certain = [label for label in joined if all(part.strip() in labels for part in label.split(separator))]
        if len(certain) >= CERTAIN_KINDS and len(certain) == len(joined):
            first = next(row for row in rows if row.get("label") in certain)
            n = sum(labels[label] for label in certain)
            raise _several(f"{n:,} rows in {names} join labels with `{separator}`: `{certain[0]}`", first["origin"])


def _several(what: str, origin: str) -> DataError:
    return DataError(
        f"multi-label data is not supported: {what}.",
        where=origin,
        do="keep one label a row: the most important one, or one row for each label",
    )


def refuse_one_class(labels: Sequence[str], where: str, dropped: str) -> None:
    """Raise DataError unless there are two classes or more to train on; `dropped` says in words what went before."""
    if len(labels) < 2:
        only = f"is only the class `{labels[0]}`" if labels else "are no rows"
        raise DataError(
            f"there {only} to train on; a classifier needs at least two classes ({dropped}).",
            where=where,
            do="check `task.label` (of a table `task.target`): is it the column with the classes?",
        )
