"""TextClassifier: the Learner of text classification: a classifier that also distils and foresees its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmops.core.protocols import Room, Row
from llmops.tasks.text_classification.classifier import Classifier
from llmops.tasks.text_classification.distil import DistilSettings, distil
from llmops.tasks.text_classification.probe import probe


class TextClassifier(Classifier):
    """What `need`, `train`, `tune` and `compress` train with."""

    def distil(
        self, dataset: Path, teacher_logits: np.ndarray, section: DistilSettings, work: Path, room: Room
    ) -> Classifier:
        """A new, shallower classifier that learnt this one's answers; see distil.py."""
        return distil(self, dataset, teacher_logits, section, work, room)

    def probe(self, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
        """What the training would take here, from a few real steps; see probe.py."""
        return probe(self, source, seconds, room)
