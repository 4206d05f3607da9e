"""What rows of any task hold, and what makes two of them the same one: equal inputs, and equal answers where there are
answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmops.core.protocols import Row, Rows, Task
from llmops.fields.hashing import key_of, normalise, row_id
from llmops.fields.kind import Keys
from llmops.fields.rowkeys import row_keys
from llmops.fields.rows import Columned, columns_of


def answer_of(row: Row) -> str | None:
    """What a row teaches to say to its text: its answer, its chosen (and rejected) one, or the last message of its
    conversation; None for rows that are a text alone, or a text and a label."""
    if isinstance(row.get("answer"), str):
        return str(row["answer"])
    if isinstance(row.get("chosen"), str):
        return f"{row['chosen']}\0{row.get('rejected', '')}"
    messages = row.get("messages")
    return str(messages[-1]["content"]) if messages else None


def shape(row: Row) -> frozenset[str]:
    """Which of the things a model can learn a row holds, one label not being the same as a list of them. Rows of one
    data set hold the same."""
    held = {name for name in ("label", "document", "answer", "messages", "chosen") if name in row}
    return frozenset({*held, "labels"} - {"label"} if isinstance(row.get("label"), list) else held)


def characters(row: Row) -> int:
    """How much is written in a row: its text or the messages of its conversation, and its answers."""
    messages = row.get("messages")
    said = [str(message["content"]) for message in messages] if messages else [str(row["text"])]
    said += [str(row[name]) for name in ("answer", "chosen", "rejected") if row.get(name)]
    return sum(map(len, said))


def twin_key(row: Row) -> str:
    """Rows with equal keys say the same. The task may name what counts as `row["twin"]`; else it is the text, put into
    its normal form, and the row's answer, in which only white space is evened out: `-1` is not `1` there."""
    if row.get("twin") is not None:
        return normalise(str(row["twin"]))
    answer = answer_of(row)
    text = normalise(row["text"])
    return text if answer is None else f"{text}\0{' '.join(answer.split())}"


def input_keys(task: Task, section: Any, rows: Rows) -> Keys:
    """What rows' inputs are equal by, as the kinds of the fields say; the split is hashed from it."""
    kinds = task.inputs(section)
    columns = columns_of(rows, kinds)
    return row_keys({name: kind.keys(columns[name]) for name, kind in kinds.items()})


def twin_keys(rows: Rows, inputs: Keys) -> Keys:
    """What rows say the same by: a table's by `inputs` (see `input_keys`) and label, others by `twin_key`."""
    if not isinstance(rows, Columned):
        return np.array([key_of(twin_key(row)) for row in rows], np.uint64)
    told = [str(value) for value in rows.values("label")]
    hashed = {value: key_of(value) for value in set(told)}
    return row_keys({"inputs": inputs, "label": np.array([hashed[value] for value in told], np.uint64)})


def identity(row: Row) -> str:
    """The id of a row: of its text, and of what else tells it from rows with that text (group, answer, place in its
    document)."""
    more = (row.get("group"), row.get("twin") or answer_of(row), row.get("document_id"), row.get("part"))
    told = [str(value) for value in more if value not in (None, "")]
    return row_id(row["text"], "\0".join(told) or None)
