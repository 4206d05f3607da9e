"""Classes described in words (`task.describe`): each description is a training row, before there are others and beside
them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from llmops.core.protocols import Row, Task

ORIGIN = "task.describe"
BETWEEN = re.compile(r"[_\W]+|(?<=[a-z])(?=[A-Z])")
"""What stands between the words of a label: card_arrival, card-arrival, cardArrival."""


def described_rows(task: Task, section: Any, trained: Collection[str]) -> list[Row]:
    """The rows that the task's block asks for, none without `describe`; `trained` are the labels that rows have."""
    describe = getattr(section, "describe", None)
    if describe is None:
        return []
    field = next(iter(task.inputs(section)))
    outside = getattr(section, "outside", None)
    told: Mapping[str, str] = (
        {label: label_words(label) for label in trained if label != outside} if describe == "labels" else describe
    )
    several = getattr(section, "several", False)
    return [
        {field: words, "label": [label] if several else label, "origin": f"{ORIGIN}: {label}", "made_from": ORIGIN}
        for label, words in sorted(told.items())
        if words
    ]


def label_words(label: str) -> str:
    """A label as it would be spoken: "card_arrival" is "card arrival"."""
    return BETWEEN.sub(" ", label).strip()
