"""Rows with every value as the model will see it, in training and in serving alike; and how long rows are."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmops.core.protocols import Rows, Task
from llmops.core.protocols.task import CLASSED
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep
from llmops.fields.labelsets import tidy
from llmops.fields.rows import Columned, Listed
from llmops.records.twins import answer_of

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def cleaned(task: Task, section: Any, rows: Rows, step: CleanStep) -> tuple[Rows, Mask]:
    """The rows cleaned, and which of them still say something."""
    if isinstance(rows, Columned):
        return _columns(task, section, rows, step)
    classes = task.predicts(section) in CLASSED
    names = list(task.inputs(section))
    new, kept = [], []
    for row in rows:
        made = task.cleaned(row, lambda text: clean(text, step))
        if classes:
            made = {**made, "label": _label(row["label"])}
        answer = answer_of(made)
        told = any(str(made[name]).strip() for name in names)
        new.append(made)
        kept.append(told and (answer is None or bool(answer.strip("\0 \t\r\n"))))
    return Listed(new), np.array(kept, bool)


def _label(label: Any) -> Any:
    """A label, or each of a list, as models name it."""
    return tidy(clean(one, CleanStep()) for one in label) if isinstance(label, list) else clean(label, CleanStep())


def unlabelled(section: Any, rows: Rows) -> Mask:
    """Rows without a label where that says nothing of them, since nobody looked (`empty: drop`)."""
    if getattr(section, "empty", "keep") == "keep":
        return np.zeros(len(rows), bool)
    return np.array([not label for label in rows.values("label")], bool)


def _columns(task: Task, section: Any, rows: Columned, step: CleanStep) -> tuple[Rows, Mask]:
    """Columns whose kind has something to clean, each distinct value once; a row without a single value goes."""
    import pyarrow as pa

    filled = np.zeros(len(rows), bool)
    for name, kind in task.inputs(section).items():
        if kind.name == "text":
            values = rows.table[name].to_pylist()
            new = {value: kind.cleaned(value, step) for value in set(values) if value is not None}
            rows = rows.with_column(name, pa.array([new.get(value) for value in values], pa.string()))
        filled |= np.asarray(rows.table[name].is_valid())
    return rows, filled


def sizes(task: Task, section: Any, rows: Rows) -> list[int]:
    """Characters of each row's inputs."""
    names = list(task.inputs(section))
    return [sum(len(str(row[name])) for name in names) for row in rows]
