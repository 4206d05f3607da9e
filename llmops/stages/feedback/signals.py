"""Signals: what a task's answers tell besides their words, and so what of them can be counted and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops.core.protocols import Judged, Task
from llmops.core.protocols.task import CLASSED


@dataclass(frozen=True)
class Signals:
    """`labels`: answers are one of a set of labels, and corrections are too; with `several` any number of them.
    `certainty`: an answer comes with its probability, and the model may abstain. `numbers`: answers and corrections are
    numbers. `outcomes`: corrections are what came true and come whether or not the answer was right; else users mostly
    speak up about wrong ones. A model that writes has none of these: what users asked and said is all there is."""

    labels: bool
    certainty: bool
    numbers: bool = False
    outcomes: bool = False
    several: bool = False

    @classmethod
    def of(cls, task: Task, section: Any) -> Signals:
        """The signals of a task's answers."""
        predicts, answers = task.predicts(section), task.runtime == "oneshot"
        numbers = predicts == "number"
        return cls(predicts in CLASSED, answers and not numbers, numbers, task.columned, predicts == "classes")

    @property
    def abstains(self) -> bool:
        """Whether the model may keep an answer back; of several labels there may be none instead."""
        return self.certainty and not self.several

    @property
    def answers(self) -> bool:
        """Whether the champion's answers can be compared; one that writes stays closed."""
        return self.certainty or self.numbers

    @property
    def learnt_from(self) -> str:
        """What is gathered for training."""
        if self.outcomes:
            return "outcomes"
        return "corrections" if self.labels else "corrections and liked answers"


def number_in(response: Mapping[str, Any] | None) -> float | None:
    """The number that a response predicts."""
    found = None if response is None else response.get("value")
    return float(found) if isinstance(found, int | float) else None


def probability_of(label: str, said: Judged) -> float | None:
    """Of two labels, the probability that a logged answer gave to this one."""
    response = said.response or {}
    sure, best = response.get("probability"), response.get("best", said.label)
    if not isinstance(sure, int | float):
        return None
    return float(sure) if best == label else 1.0 - float(sure)
