"""Twin: a bundle's own self in float32, as what its answers are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.bundle.predictor import Predictor
from llmops.tasks.timing import split_answers


class Twin:
    """Answers as a learner does."""

    def __init__(self, folder: Path) -> None:
        self.opened = Predictor.open(folder)

    def predict(self, dataset: Path, split: str) -> Any:
        """Raw answers to a split's rows, in their order."""
        return split_answers(self.opened, dataset, split)
