"""Which task data is for: by the shape of its rows, by what its columns hold, or because it is plain text."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmops.core.errors import DataError, UsageError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.folderreader import text_files
from llmops.records.look import SAMPLE, first_rows, look, open_data
from llmops.records.profile import ASIAN, Column, columns_of
from llmops.records.readers import ENDINGS, PLAIN
from llmops.records.tablereader import is_saved_dataset
from llmops.starter.nearly import refuse_nearly
from llmops.starter.usable import is_table
from llmops.tasks import TASKS, find

Objective = Literal["language-model", "instructions", "preferences"]
CHAT_COLUMNS = {"messages", "conversations", "conversation", "instruction", "prompt"}
PAIR_COLUMNS = {"chosen", "rejected"}
MOST = 0.5
"""Share of rows that must have a shape for the data to have it."""
TABLE = 0.05
"""A text file is a table when at most this share of its lines does not fit its header."""
QUESTIONS = "question query frage pregunta pergunta domanda vraag 问题 質問 质问".split()
ANSWERS = "answer response reply antwort respuesta resposta risposta réponse reponse antwoord 答案 回答".split()
PROSE = 0.8
"""Share of answers of more than one word, for them to be answers and no labels."""
REPEATED, LONG = 10, 60
"""Rows that a short answer may have on average, for labels have many more; and characters from which it is no label."""


@dataclass(frozen=True)
class Kind:
    """A task, and of text generation what is learnt; `plain`: the data is text without columns."""

    task: str
    objective: Objective = "instructions"
    plain: bool = False


def recognise(data: Path, task: str | None = None, text: str | None = None, label: str | None = None) -> Kind:
    """The task that data is for; `task` settles it, `label` means labels. Raises UsageError for an unknown task, and
    DataError for data that can't be read or that is nearly chats (see nearly.py)."""
    if task is not None and task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"take one of: {', '.join(TASKS)}"
        raise UsageError(f"there is no task `{task}`.", do=hint)
    if task not in (None, "text-generation"):
        return Kind(str(task))
    if task is None and label is not None:
        return Kind("tabular" if text is None and not data.is_dir() and holds_table(data) else "text-classification")
    if is_plain_text(data):
        return Kind("text-generation", "language-model", plain=True)
    rows = first_rows(open_data(data), data, SAMPLE)
    objective = None if text is not None else _spoken(rows)
    if objective is None and text is None:
        refuse_nearly(rows, data)
    if objective is not None or task is not None:
        return Kind("text-generation", objective or "language-model")
    if question_and_answer(columns_of(rows)):
        return Kind("answering")
    return Kind("tabular" if text is None and not data.is_dir() and is_table(rows) else "text-classification")


def holds_table(data: Path) -> bool:
    """Whether a file is a table to predict from."""
    return is_table(first_rows(open_data(data), data, SAMPLE))


def is_plain_text(data: Path) -> bool:
    """Whether data is text without columns: a text file that is no table, or a folder of documents."""
    if data.is_dir():
        return not _holds_tables(data) and _holds_documents(text_files(data), data)
    return data.suffix.lower() in PLAIN and not _is_table(data)


def _holds_documents(files: list[Path], folder: Path) -> bool:
    """Whether text files are documents: folders of them within are labels, unless more of the text lies outside of
    them, or it is Markdown with a page beside them."""
    beside = [file for file in files if file.parent == folder]
    within = [file for file in files if file.parent != folder]
    pages = sum(file.suffix.lower() == ".md" for file in within)
    return bool(beside) and (len(beside) > len(within) or 2 * pages > len(within))


def _holds_tables(folder: Path) -> bool:
    tables = ENDINGS.keys() - PLAIN
    return is_saved_dataset(folder) or any(file.suffix.lower() in tables for file in folder.iterdir())


def _is_table(data: Path) -> bool:
    """Whether a text file holds texts with labels, or columns: exports of tables end with .txt too."""
    reading = open_data(data)
    try:
        rows = len(first_rows(reading, data))
        fits = len(reading.bad) <= TABLE * (rows + len(reading.bad))
        return fits and (holds_table(data) or bool(look(data)))
    except DataError:
        return False


def _spoken(rows: list[Row]) -> Objective | None:
    """Whether rows are conversations or preferences, in a shape that text generation reads."""
    task = find("text-generation")
    names = {str(name) for row in rows for name in row}
    shapes: list[tuple[Objective, bool]] = [
        ("preferences", names >= PAIR_COLUMNS), ("instructions", bool(names & CHAT_COLUMNS)),
    ]  # fmt: skip
    for objective, likely in shapes:
        section = task.section.model_validate({"name": task.name, "objective": objective})
        if likely and sum(isinstance(task.example(section, row), dict) for row in rows) >= MOST * len(rows):
            return objective
    return None


def question_and_answer(columns: list[Column]) -> tuple[str, str] | None:
    """The columns of questions and of answers in words, mostly longer than their questions and few of them the same."""
    asked = next((column for column in columns if _is_called(column, QUESTIONS)), None)
    told = next((column for column in columns if column is not asked and _is_called(column, ANSWERS)), None)
    if asked is None or told is None or not asked.values or not told.values:
        return None
    prose = told.share(lambda value: " " in value or ASIAN.search(value))
    few = told.length > LONG or len(told.counts) * REPEATED >= len(told.values)
    varied = few and len(asked.counts) * 2 >= len(asked.values)
    return (asked.name, told.name) if prose >= PROSE and varied and told.length > asked.length else None


def _is_called(column: Column, names: list[str]) -> bool:
    """Whether a column's name is, holds or ends with one of `names`, as `Kundenfrage` does."""
    return column.named(names) or column.name.casefold().endswith(tuple(names))


def plain_source(data: Path, rows: str) -> SourceSection:
    """Plain text as a source."""
    return SourceSection.model_validate({"path": str(data), "format": "text", "rows": rows})
