"""What the server's answers are worth: quality, abstention, latency, parity with the trained model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.report import Number
from llmops.tasks.asking import Answers
from llmops.tasks.text_classification.baseline import read_rows
from llmops.tasks.text_classification.calibration import softmax
from llmops.tasks.text_classification.codec import TextSettings
from llmops.tasks.text_classification.detectors import certainty
from llmops.tasks.text_classification.metrics import scores
from llmops.tasks.text_classification.tradeoff import Sure, figures


@dataclass(frozen=True)
class Rows:
    """A split as the server is asked it: `truth` holds class numbers, -1 for rows outside every class."""

    split: str
    examples: list[dict[str, Any]]
    labels: list[str]
    truth: np.ndarray[Any, Any]

    @property
    def texts(self) -> list[str]:
        return [example["text"] for example in self.examples]

    def numbers(self, said: Sequence[str]) -> np.ndarray[Any, Any]:
        """Labels as class numbers; one that these rows do not know (an old champion's) becomes a number of its own."""
        index = {label: number for number, label in enumerate(self.labels)}
        return np.array([index.get(label, len(self.labels)) for label in said], dtype=np.int64)

    def scores(self, said: Sequence[str]) -> dict[str, float]:
        """Accuracy and its kin of these answers on the in-scope rows."""
        return scores(self.truth, self.numbers(said), len(self.labels))


def rows_of(dataset: Path, split: str) -> Rows:
    """A split as it stands in the data set."""
    labels = json.loads((dataset / "labels.json").read_text())
    examples = read_rows(dataset / f"{split}.jsonl")
    index = {label: number for number, label in enumerate(labels)}
    truth = np.array([index.get(example["label"], -1) for example in examples], dtype=np.int64)
    return Rows(split, examples, labels, truth)


def held_out(dataset: Path) -> Rows:
    """The test split; the validation split when there is no test row."""
    rows = rows_of(dataset, "test")
    return rows if rows.examples else rows_of(dataset, "valid")


def parity(rows: Rows, answers: Answers, logits: np.ndarray[Any, Any], settings: TextSettings) -> dict[str, Number]:
    """Share of in-scope rows with the trained model's label, largest difference of a probability, and share of all rows
    on which the server abstains exactly where the trained model would with the same detector and threshold.

    `logits` float32 [rows, classes] are the trained model's; only the labels that a response names are compared.
    """
    trained = [rows.labels[number] for number in logits.argmax(axis=1)]
    served = [response["best"] for response in answers.responses]
    # Outside every class no label is right; there it counts whether the server abstains.
    counts = rows.truth >= 0 if (rows.truth >= 0).any() else np.ones(len(rows.truth), bool)
    expected = softmax(logits, settings.temperature)
    index = {label: number for number, label in enumerate(rows.labels)}
    worst = 0.0
    for row, response in zip(expected, answers.responses, strict=True):
        named = [(response["best"], response["probability"])]
        named += [(other["label"], other["probability"]) for other in response["alternatives"]]
        worst = max(worst, *(abs(row[index[label]] - probability) for label, probability in named))
    return {
        "parity": float(np.mean([a == b for a, b, here in zip(trained, served, counts, strict=True) if here])),
        "probability_difference": float(worst),
        "abstains_alike": float(np.mean(withheld(answers) == kept_back(logits, settings))),
    }


def kept_back(logits: np.ndarray[Any, Any], settings: TextSettings) -> np.ndarray[Any, Any]:
    """Whether a bundle's settings abstain, bool [rows], from logits [rows, classes]."""
    sure: np.ndarray[Any, Any] = certainty(settings.detector, logits, settings.temperature)
    return sure < settings.threshold


def withheld(answers: Answers) -> np.ndarray[Any, Any]:
    """Whether the server abstained, bool [rows]."""
    return np.array([response["abstained"] for response in answers.responses], bool)


def as_sure(rows: Rows, answers: Answers) -> Sure:
    """The server's answers as abstaining sees them."""
    scores = np.array([response["certainty"] for response in answers.responses], np.float64)
    right = rows.numbers([response["best"] for response in answers.responses]) == rows.truth
    return Sure(scores, right, rows.truth < 0)


def abstained(rows: Rows, answers: Answers) -> dict[str, Number]:
    """Share of outside rows withheld, of in-scope rows answered, accuracy on the answered ones; None without rows."""
    said = as_sure(rows, answers)
    # by what the server did: a certainty is rounded on the wire, and may lie on the threshold
    return figures(replace(said, scores=np.where(withheld(answers), 0.0, 1.0)), 0.5)
