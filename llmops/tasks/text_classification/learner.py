"""TextClassifier: the Learner of text classification: a classifier that also distils and foresees its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmops.core.protocols import Room, Row
from llmops.tasks.text_classification import students
from llmops.tasks.text_classification.classifier import Classifier
from llmops.tasks.text_classification.probe import probe


class TextClassifier(Classifier):
    """What `need`, `train`, `tune` and `compress` train with."""

    def distil(
        self, dataset: Path, logits: np.ndarray, section: students.DistilSettings, work: Path, room: Room
    ) -> Classifier:
        """A new, shallower classifier that learnt a teacher's answers; see students.py, as for the next two."""
        return students.distil(self, dataset, logits, section, work, room)

    def prune(
        self, dataset: Path, logits: np.ndarray, section: students.PruneSettings, work: Path, room: Room
    ) -> Classifier:
        """A new, narrower classifier that recovered by a teacher's answers."""
        return students.prune(self, dataset, logits, section, work, room)

    def trim(self, dataset: Path, tokens: int) -> Classifier:
        """The same with fewer tokens."""
        return students.trim(self, dataset, tokens)

    def probe(self, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
        """What the training would take here, from a few real steps; see probe.py."""
        return probe(self, source, seconds, room)
