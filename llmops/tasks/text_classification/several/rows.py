"""Rows of a split beside the labels that a model gives them, as matrices of rows and labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.tasks.text_classification.baseline import read_rows
from llmops.tasks.text_classification.several.codec import LikelyLabel
from llmops.tasks.text_classification.several.encoder import multi_hot
from llmops.tasks.text_classification.several.metrics import figures

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """A split of a data set: `truth` bool [rows, labels]."""

    split: str
    examples: list[dict[str, Any]]
    labels: list[str]
    truth: Array


@dataclass(frozen=True)
class Given:
    """What a model gives to rows: `labels` in the order of the columns, those of the rows first and then labels that
    only the model knows (an old champion's); `given` bool and `probabilities` float64 [rows, labels]."""

    labels: list[str]
    given: Array
    probabilities: Array

    def names(self, place: int) -> list[str]:
        """The labels given to one row."""
        return [self.labels[at] for at in np.flatnonzero(self.given[place])]


def rows_of(dataset: Path, split: str) -> Rows:
    """A split as it stands in the data set."""
    labels: list[str] = json.loads((dataset / "labels.json").read_text())
    examples = read_rows(dataset / f"{split}.jsonl")
    return Rows(split, examples, labels, multi_hot([row["label"] for row in examples], labels).astype(bool))


def held_out(dataset: Path) -> Rows:
    """The test split; the validation split when there is no test row."""
    rows = rows_of(dataset, "test")
    return rows if rows.examples else rows_of(dataset, "valid")


def given_to(rows: Rows, answers: Sequence[tuple[Sequence[LikelyLabel], Sequence[LikelyLabel]]]) -> Given:
    """Answers (of each row the labels given and the others) as matrices; a label not named has probability 0."""
    named = {one.label for answer in answers for part in answer for one in part}
    labels = [*rows.labels, *sorted(named - set(rows.labels))]
    index = {label: number for number, label in enumerate(labels)}
    given = np.zeros((len(answers), len(labels)), bool)
    shares = np.zeros((len(answers), len(labels)))
    for place, (chosen, others) in enumerate(answers):
        given[place, [index[one.label] for one in chosen]] = True
        for one in (*chosen, *others):
            shares[place, index[one.label]] = one.probability
    return Given(labels, given, shares)


def widened(rows: Rows, labels: Sequence[str]) -> Array:
    """The truth with columns for labels that no row has, bool [rows, labels]."""
    return np.pad(rows.truth, ((0, 0), (0, len(labels) - len(rows.labels))))


def worth(rows: Rows, said: Given) -> dict[str, float]:
    """The metrics of what was given."""
    return figures(widened(rows, said.labels), said.given, said.probabilities)
