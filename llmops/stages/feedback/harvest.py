"""Harvest: what users said becomes training rows, in a file that grows and never takes a row of the test set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Judged, Row, Rows, Task
from llmops.fields.kind import Kind
from llmops.fields.labelsets import each
from llmops.fields.rows import columns_of
from llmops.records.twins import shape
from llmops.stages.feedback.lens import changed, keys_of, read_columns, redacted

Learn = Callable[[Judged], Row | None]
"""The row that an opinion becomes, as the task says; None when nothing can be learnt from it."""
LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""Line breaks that JSON leaves as they are; escaped, every reader of lines sees one row a line."""
RowKey = tuple[Any, ...]
"""What rows have one of; see `Rule.keys`."""


@dataclass(frozen=True)
class Harvest:
    """The rows of the harvest file, and why opinions were left out."""

    rows: list[Row]
    added: int
    """Rows that were not in the file before."""
    in_test: int
    """Opinions on rows of the test set; training on them would make the test a lie."""
    without_contents: int
    """Corrections of requests that the log did not keep, or kept in a form that says nothing."""

    def new_labels(self, known: Iterable[str]) -> list[tuple[str, int]]:
        """Labels of the harvest that are not `known`, with their rows, the most frequent first."""
        classes = set(known)
        told = [str(label) for row in self.rows for label in each(row.get("label"))]
        return Counter(label for label in told if label not in classes).most_common()

    def learned_until(self, rows: int) -> float:
        """The time of the latest word among the first `rows`, which a champion was trained with; 0 for none."""
        return max((float(row["at"]) for row in self.rows[:rows]), default=0.0)


@dataclass(frozen=True)
class Rule:
    """How opinions become rows, and what makes two of them one: `kinds` are the inputs', `asked` finds them in a logged
    request. With `by_request` rows that agree in all fields may be two (two people of one income have an outcome each),
    else one right answer stands for equal inputs."""

    learn: Learn
    kinds: Mapping[str, Kind]
    asked: Callable[[Mapping[str, Any]], Row | None]
    by_request: bool = False

    @classmethod
    def of(cls, task: Task, section: Any, learn: Learn | None = None) -> Rule:
        """The rule of a task; `learn` in the place of its own."""
        own: Learn = lambda said: task.harvested(section, said)  # noqa: E731
        return cls(learn or own, task.inputs(section), lambda request: task.asked(section, request), task.columned)

    def says_nothing(self, said: Judged) -> bool:
        """Whether a correction is of a request that the log did not keep."""
        return said.correction is not None and (said.request is None or self.asked(said.request) is None)

    def inputs(self, rows: Sequence[Row]) -> list[int]:
        """What the rows' inputs are equal by."""
        return keys_of(self.kinds, read_columns(self.kinds, rows)).tolist() if rows else []

    def keys(self, rows: Sequence[Row]) -> list[RowKey]:
        """What rows have one of: the kind of thing that they teach, and what they teach it about."""
        more = [row.get("request_id") if self.by_request else None for row in rows]
        return list(zip(map(shape, rows), self.inputs(rows), more, strict=True))

    def sealed(self, test: Rows) -> set[int]:
        """The inputs of test rows, as they are and as the log keeps them."""
        if not len(test):
            return set()
        columns = columns_of(test, self.kinds)
        kept = {
            name: columns[name] if kind.numeric else changed(columns[name], partial(redacted, kind))
            for name, kind in self.kinds.items()
        }
        return {key for side in (columns, kept) for key in keys_of(self.kinds, side).tolist()}


def gather(before: Sequence[Row], judged: Sequence[Judged], test: Rows, rule: Rule) -> Harvest:
    """The rows of `before` and those that `judged` (oldest word first) become, one row of each kind and inputs.

    The latest word on a row wins; but a thumb does not take the place of a correction, and one that is turned down
    takes its row along. What the log keeps is redacted, so a test row is recognised by its redacted form too.
    """
    sealed = rule.sealed(test)
    told = list(zip(rule.keys(before), rule.inputs(before), before, strict=True))
    kept = {key: row for key, inputs, row in told if inputs not in sealed}
    old, corrected = set(kept), set()
    in_test = without_contents = 0
    for said, taught in _learnt(judged, rule):
        if taught is None:
            without_contents += rule.says_nothing(said)
            _take_back(kept, said)
            continue
        row, key, inputs = taught
        if inputs in sealed:
            in_test += 1
        elif said.correction is None and key in corrected:
            continue
        elif key not in kept or kept[key]["at"] <= row["at"]:
            kept[key] = row
            corrected.update([key] if said.correction is not None else [])
    return Harvest(list(kept.values()), len(set(kept) - old), in_test, without_contents)


def _learnt(judged: Sequence[Judged], rule: Rule) -> list[tuple[Judged, tuple[Row, RowKey, int] | None]]:
    """Each opinion with the row that it becomes, the row's key and what its inputs are equal by."""
    rows = [rule.learn(said) for said in judged]
    made = [row for row in rows if row is not None]
    taught = iter(zip(made, rule.keys(made), rule.inputs(made), strict=True))
    return [(said, None if row is None else next(taught)) for said, row in zip(judged, rows, strict=True)]


def _take_back(kept: dict[RowKey, Row], said: Judged) -> None:
    """Remove the row of an answer that was liked before and is disliked now."""
    if said.correction is not None or said.rating is None or said.rating > 0:
        return
    for key in [key for key, row in kept.items() if row.get("request_id") == said.id]:
        del kept[key]


def read(path: Path, kinds: Mapping[str, Kind], labelled: bool = False) -> list[Row]:
    """The rows of the harvest file; none when it is not there. Raises DataError with file:line for a bad row: one
    without the inputs that `kinds` read, or, where they are `labelled`, without a label."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the harvest cannot be read: {error}", str(path), "restore it, or move it away") from error
    return [_row(line, f"{path}:{number}", kinds, labelled) for number, line in enumerate(lines, 1) if line.strip()]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replace the harvest file, whole or not at all; left alone when nothing changed, for `prepare` reads it."""
    content = "".join(json.dumps(row, ensure_ascii=False).translate(LINE_BREAKS) + "\n" for row in rows)
    before = path.read_bytes() if path.exists() else b""
    if before != content.encode():
        write_whole(path, content)


def _row(line: str, where: str, kinds: Mapping[str, Kind], labelled: bool) -> Row:
    try:
        row = json.loads(line)
        label = row["label"] if labelled else row.get("label", "")
        several = isinstance(label, list) and all(isinstance(one, str) for one in label)
        if not ((several or isinstance(label, str | int | float)) and isinstance(row["at"], int | float)):
            raise TypeError("label must be a text, a number or a list of texts, at a number")
        for name, kind in kinds.items():
            value = row[name]
            if kind.name == "text" and not (isinstance(value, str) or (value is None and len(kinds) > 1)):
                raise TypeError(f"{name} must be a text")
            kind.read(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # BadCell is a ValueError
        do = "mend or remove the line; corrections that are still in the traffic log come back by themselves"
        raise DataError(f"this is no row of the harvest: {error!r}", where, do) from error
    return dict(row)
