"""Signals: what a task's answers tell besides their words, and so what of them can be counted and compared."""

from __future__ import annotations

from dataclasses import dataclass

from llmops.core.protocols import Task


@dataclass(frozen=True)
class Signals:
    """`labels`: answers are one of a set of labels, and corrections are too. `certainty`: an answer comes with its
    probability, and the model may abstain. A model that writes has neither: users' texts and words are all there is."""

    labels: bool
    certainty: bool

    @classmethod
    def of(cls, task: Task) -> Signals:
        """The signals of a task's answers."""
        return cls(task.labelled, task.runtime == "oneshot")
