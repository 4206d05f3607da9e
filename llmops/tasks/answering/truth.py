"""What is right for each question of a split, and how well BM25 thinks that entries fit it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Row
from llmops.fields.hashing import normalise
from llmops.tasks.answering import entries as entry_file
from llmops.tasks.answering.entries import Entry, read_entries, read_rows
from llmops.tasks.answering.lexical import Lexical


@dataclass(frozen=True)
class Truth:
    """A split's rows with the index of their data set. `right` holds the numbers of every right entry of each row: rows
    with one question share their answers."""

    split: str
    rows: list[Row]
    entries: list[Entry]
    right: list[frozenset[int]]

    @property
    def questions(self) -> list[str]:
        return [row["text"] for row in self.rows]

    @cached_property
    def shares(self) -> np.ndarray[Any, Any]:
        """BM25 shares, float32 [rows, entries]."""
        return Lexical([one.text for one in self.entries]).shares(self.questions)


def truth(dataset: Path, split: str) -> Truth:
    """The split as it stands in the data set. Raises DataError when the data set has no index."""
    entries = read_entries(dataset / entry_file.FILE)
    rows = read_rows(dataset / f"{split}.jsonl")
    return Truth(split, rows, entries, right_entries(rows, entries))


def held_out(dataset: Path) -> Truth:
    """The test split; the validation split when there is no test row."""
    found = truth(dataset, "test")
    return found if found.rows else truth(dataset, "valid")


def right_entries(rows: list[Row], entries: list[Entry]) -> list[frozenset[int]]:
    """Numbers of the right entries of each row."""
    numbers = entry_file.places(entries)
    of_question: defaultdict[str, set[int]] = defaultdict(set)
    for row in rows:
        number = numbers.get(normalise(row["answer"]))
        if number is not None:
            of_question[normalise(row["text"])].add(number)
    return [frozenset(of_question[normalise(row["text"])]) for row in rows]
