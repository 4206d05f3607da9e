"""Twin: a bundle's own self in float32, as what its answers are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.bundle.predictor import Predictor
from llmops.fields.rows import read_split
from llmops.tasks.timing import raw_answers


class Twin:
    """Answers as a learner does."""

    def __init__(self, folder: Path) -> None:
        self.opened = Predictor.open(folder)

    def predict(self, dataset: Path, split: str) -> Any:
        """Raw answers to a split's rows, in their order."""
        requests = [self.opened.codec.request(row) for row in read_split(dataset, split)]
        return raw_answers(self.opened, requests)[0]
