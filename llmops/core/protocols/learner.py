"""What turns rows into a model: an encoder and a learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from llmops.core.protocols.room import Room
from llmops.core.rows import Rows


class Encoder(Protocol):
    """Examples to arrays on disk."""

    def prepare(self, splits: Mapping[str, Rows], out: Path) -> dict[str, Any]:
        """Fit what must be fitted on the train split (a tokenizer, a label list), encode each split
        into `out`, and return figures for the report. "passages" among them (list[Passage]) are shown to the user."""


Listener = Callable[[int, dict[str, float]], bool]
"""Called after every epoch with its number (from 1) and its metrics; returns True to stop the training."""


class Learner(Protocol):
    """A model that can be trained, measured, saved and exported. All folders belong to the caller."""

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the prepared data set; checkpoints live in `work`, and a killed training carries on from
        there to exactly the same weights. Returns {"metrics", "history" (one dict an epoch), "seconds",
        "peak_memory_mb", "parameters", "rows_per_s", ...}."""

    def predict(self, dataset: Path, split: str) -> Any:
        """The model's raw answers (float32 array [rows, classes]) for a split, in the split's order."""

    def save(self, folder: Path) -> None:
        """Write the model as safetensors + model.json."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""

    def export(self, folder: Path) -> list[Path]:
        """Write all that a float32 bundle answers with into `folder`: model.onnx (with external data beside it where it
        has some), and the files that the codec reads; returns the files. `merged/` may hold the model for other tools.
        What the runtime must know of the network may lie in settings.json: it joins the bundle's settings."""


class Updating(Protocol):
    """What a learner offers beside, whose train section has `update`."""

    def begin_from(self, folder: Path) -> str:
        """Have the next training start from the model in `folder`, as `save` wrote it; else in words why it cannot."""
