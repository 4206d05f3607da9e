"""What a row of a file about texts says, and which file is read how.

| columns                                            | what it is                                                   |
|----------------------------------------------------|--------------------------------------------------------------|
| `id`, and `rating` and/or `correction`, `outcome`  | an opinion about the request of that id                      |
| `text,label`, or the task's own two names of these | a text with its right label, for a task with labels          |
| those of a row of `prepare.sources`                | a question or a conversation with its right answer, for one  |
|                                                    | without; of a preference, the chosen answer is the right one |

What files of tables say stands in outcomefile.py.
"""

from __future__ import annotations

from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row, Task
from llmops.records.reading import Reading
from llmops.stages.feedback import outcomefile
from llmops.stages.feedback.said import RATINGS, Parse, Said, made_id


def expected(task: Task, section: Any) -> str:
    """What a file may hold."""
    if task.columned:
        return outcomefile.expected(section)
    labelled = task.predicts(section) == "class"
    own = "the columns text and label" if labelled else "rows as in prepare.sources, each with the right answer"
    return f"give a CSV or JSONL file with {own}, or id with rating and/or correction"


def parser(reading: Reading, task: Task, section: Any) -> Parse:
    """What reads a row of this file, by its columns. Raises DataError when they are none that feedback is made of."""
    columns = reading.columns or []
    if task.columned and (parse := outcomefile.parser(columns, task, section)) is not None:
        return parse
    if "id" in columns and {"rating", "correction", "outcome"} & set(columns):
        return _about_request
    own, labelled = task.columns(section), task.predicts(section) == "class"
    if not labelled and not task.columned and all(column in columns for column in own):
        return lambda row, origin: _taught(task.example(section, row), origin)
    for text, label in (("text", "label"), own) if labelled and not task.columned else ():
        if text in columns and label in columns:
            return lambda row, origin: _labelled(row.get(text), row.get(label), origin)
    shown = ", ".join(columns) or "none"
    what = f"{reading.name} has no columns that feedback is made of; it has {shown}"
    raise DataError(what, f"{reading.name}:1", expected(task, section))


def _about_request(row: Row, origin: str) -> Said | str:
    request, rating, correction = (_cell(row.get(name)) for name in ("id", "rating", "correction"))
    correction = correction or _cell(row.get("outcome"))
    if not request:
        return "the id is missing"
    if rating and rating.lower() not in RATINGS:
        return f"the rating is `{rating}`; it must be 1 or -1"
    if not rating and not correction:
        return "there is neither a rating nor a correction"
    return Said(origin, request, RATINGS[rating.lower()] if rating else None, correction or None)


def _labelled(text: Any, label: Any, origin: str) -> Said | str:
    text, label = _cell(text), _cell(label)
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


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()
