"""GenerationLearner: the Learner of text generation: a model that writes and also foresees its training."""

from __future__ import annotations

from pathlib import Path

from llmops.core.protocols import Room, Row
from llmops.tasks.text_generation.model import GenerationModel
from llmops.tasks.text_generation.probe import probe


class GenerationLearner(GenerationModel):
    """What `need`, `train`, `tune`, `compress` and `deploy` use."""

    def probe(self, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
        """What the training would take here, from a few real steps; see probe.py."""
        return probe(self, source, seconds, room)
