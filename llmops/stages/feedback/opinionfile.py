"""What a row of a file about texts says, and which file is read how.

| columns                                            | what it is                                                   |
|----------------------------------------------------|--------------------------------------------------------------|
| `id`, and `rating` and/or `correction`, `outcome`  | an opinion about the request of that id                      |
| `text,label`, or the task's own names of these     | a text with its right label, or labels, for a task with them |
| those of a row of `prepare.sources`                | a question or a conversation with its right answer, for one  |
|                                                    | without; of a preference, the chosen answer is the right one |

What files of tables say stands in outcomefile.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row, Task
from llmops.core.protocols.task import CLASSED
from llmops.fields.kind import BadCell
from llmops.fields.labelsets import labels_of, labels_text
from llmops.records.reading import Reading
from llmops.stages.feedback import outcomefile
from llmops.stages.feedback.said import RATINGS, Parse, Said, made_id


def expected(task: Task, section: Any) -> str:
    """What a file may hold."""
    if task.columned:
        return outcomefile.expected(section)
    labelled = task.predicts(section) in CLASSED
    own = "the columns text and label" if labelled else "rows as in prepare.sources, each with the right answer"
    return f"give a CSV or JSONL file with {own}, or id with rating and/or correction"


def parser(reading: Reading, task: Task, section: Any) -> Parse:
    """What reads a row of this file, by its columns. Raises DataError when they are none that feedback is made of."""
    columns = reading.columns or []
    if task.columned and (parse := outcomefile.parser(columns, task, section)) is not None:
        return parse
    own, labelled = task.columns(section), task.predicts(section) in CLASSED
    several = task.predicts(section) == "classes"
    read = partial(_labels, separator=section.separator) if several else _cell
    if "id" in columns and {"rating", "correction", "outcome"} & set(columns):
        return lambda row, origin: _about_request(row, origin, read)
    if not labelled and not task.columned and all(column in columns for column in own):
        return lambda row, origin: _taught(task.example(section, row), origin)
    if several and all(column in columns for column in own):
        return lambda row, origin: _with_labels(task.example(section, row), origin, section.empty == "keep")
    named = [("text", "label"), *([own] if len(own) == 2 else [])] if labelled and not task.columned else []
    for text, label in named:
        if text in columns and label in columns:
            return lambda row, origin: _labelled(row.get(text), row.get(label), origin, read)
    shown = ", ".join(columns) or "none"
    what = f"{reading.name} has no columns that feedback is made of; it has {shown}"
    raise DataError(what, f"{reading.name}:1", expected(task, section))


def _about_request(row: Row, origin: str, read: Callable[[Any], str]) -> Said | str:
    """`read` makes the text of a right answer of its cell."""
    request, rating = _cell(row.get("id")), _cell(row.get("rating"))
    try:
        correction = read(row.get("correction")) or read(row.get("outcome"))
    except BadCell as error:
        return f"the correction is none: {error}"
    if not request:
        return "the id is missing"
    if rating and rating.lower() not in RATINGS:
        return f"the rating is `{rating}`; it must be 1 or -1"
    if not rating and not correction:
        return "there is neither a rating nor a correction"
    return Said(origin, request, RATINGS[rating.lower()] if rating else None, correction or None)


def _with_labels(example: Row | str, origin: str, may_lack: bool) -> Said | str:
    """A text with any number of labels; with none where that says that no label fits."""
    if isinstance(example, str):
        return example
    if not (example["label"] or may_lack):
        return "the label is missing"
    return Said(origin, made_id(example["text"]), None, labels_text(example["label"]), {"text": example["text"]})


def _labelled(text: Any, label: Any, origin: str, read: Callable[[Any], str]) -> Said | str:
    try:
        text, label = _cell(text), read(label)
    except BadCell as error:
        return f"the label is none: {error}"
    if not text or not label:
        return "the text is missing" if not text else "the label is missing"
    return Said(origin, made_id(text), None, label, {"text": text})


def _taught(example: Row | str, origin: str) -> Said | str:
    """An example of a task without labels, as the request that it would have been and the right answer to it."""
    if isinstance(example, str):
        return example
    if "messages" in example:
        return _chat(example, origin)
    if "answer" not in example:
        return "a document holds no answer to learn from; add it to prepare.sources"
    text, answer = example["text"], example["answer"]
    # The entry, by which a correction's source is found again.
    entry = {"entry": "", "text": answer, "source": example.get("source")}
    return Said(origin, made_id(text), None, answer, {"question": text}, {"answer": None, "alternatives": [entry]})


def _chat(example: Row, origin: str) -> Said:
    messages, rejected = example["messages"], example.get("rejected")
    right = example.get("chosen") or messages[-1]["content"]
    asked = messages if "chosen" in example else messages[:-1]
    told = [f"{message['role']}: {message['content']}" for message in asked] + ([rejected] if rejected else [])
    response = {"answer": rejected, "finish_reason": "stop"} if rejected else None
    return Said(origin, made_id("\n".join(told)), None, right, {"messages": asked}, response)


def _labels(cell: Any, separator: str | None) -> str:
    """The labels of a cell as the log keeps them; nothing for an empty cell: `[]` says that none is right."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return ""
    return labels_text(labels_of(cell, separator))


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()
