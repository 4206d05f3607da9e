"""What data nearly is: rows that look like chats or preferences, and why most of them cannot be learnt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.tasks import find
from llmops.tasks.text_generation.shapes import LISTS, PAIR

MOST = 0.5
"""Share of rows that must look like something for the data to look so."""
TOLD = 3
"""Reasons that a refusal tells."""
SPEAKERS = {"role", "from"}
ASKED = {*LISTS, "prompt", "instruction", "question", "query"}
HOW = {
    "instructions": 'write {"messages": [{"role": "user", "content": ".."}, {"role": "assistant", "content": ".."}]}',
    "preferences": 'write {"prompt": "..", "chosen": "..", "rejected": ".."}; prompt may be a list of messages',
}


def refuse_nearly(rows: Sequence[Row], data: Path) -> None:
    """Raise DataError, which tells the reasons with their counts, when rows look like chats or like preferences: asked
    once it is known that too few of them can be learnt from."""
    if not rows:
        return
    for objective, what, looks in (
        ("preferences", "preferences", _like_preference), ("instructions", "chats", _like_chat),
    ):  # fmt: skip
        if sum(looks(row) for row in rows) >= MOST * len(rows):
            _refuse_another_name(rows, data)
            raise DataError(
                f"the rows of {data} look like {what}, but {_why(rows, objective)}.",
                where=str(data),
                do=f"{HOW[objective]}; for something else, name it with --task, or a label's column with --label",
            )


def _refuse_another_name(rows: Sequence[Row], data: Path) -> None:
    """Raise DataError when chats stand in a column that is called as no column of chats is."""
    names = Counter(name for row in rows for name, value in row.items() if _spoken(value))
    [(name, _)] = names.most_common(1) or [("", 0)]
    if name and not any(known in row for row in rows for known in (*LISTS, *PAIR)):
        raise DataError(
            f"the rows of {data} look like chats, in a column called {name}, and no column of chats is called so.",
            where=str(data),
            do=f"call the column messages (or one of: {', '.join(one for one in LISTS if one != 'messages')})",
        )


def _why(rows: Sequence[Row], objective: str) -> str:
    """The commonest reasons, each with how many rows it is true of, and its first row's detail."""
    task = find("text-generation")
    section = task.section.model_validate({"name": task.name, "objective": objective})
    off = [made for made in (task.example(section, row) for row in rows) if isinstance(made, str)]
    counts = Counter(why.partition("; ")[0] for why in off)
    details = {reason: detail for reason, _, detail in (why.partition("; ") for why in reversed(off))}
    told = [
        f"in {n:,} of {len(rows):,} {reason}{f' ({details[reason]})' if details[reason] else ''}"
        for reason, n in counts.most_common(TOLD)
    ]
    more = f", and {len(counts) - TOLD} other reasons" if len(counts) > TOLD else ""
    return ", ".join(told) + more


def _like_chat(row: Row) -> bool:
    """Whether a row holds a list of what somebody says."""
    return any(map(_spoken, row.values()))


def _like_preference(row: Row) -> bool:
    """Whether a row has two answers to one question."""
    asked = any(row.get(name) is not None for name in ASKED) or all(_spoken(row.get(name)) for name in PAIR)
    return asked and all(name in row for name in PAIR)


def _spoken(value: Any) -> bool:
    """Whether a value is a list of messages, or the JSON of one."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        return value.lstrip().startswith("[{")
    return isinstance(value, list | tuple) and any(isinstance(one, Mapping) and SPEAKERS & one.keys() for one in value)
