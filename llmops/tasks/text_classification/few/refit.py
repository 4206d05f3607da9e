"""Refit: one more training on all rows but the test's, after the one that was measured on validation rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.protocols import Room
from llmops.engine.ragged import Ragged, joined, taken

if TYPE_CHECKING:
    from llmops.tasks.text_classification.classifier import Classifier


def refit(classifier: Classifier, dataset: Path, work: Path, room: Room, epochs: int) -> dict[str, Any]:
    """Train the classifier, which has just been trained, again, from the same start, on train and validation rows, for
    `epochs`; what it answered to the latter before is kept in `classifier.unseen`. Carries on from `work` after a kill.

    Returns {"refit_rows", "refit_s"}.
    """
    began = time.monotonic()
    train, valid = (Ragged.read(dataset / f"{split}.safetensors") for split in ("train", "valid"))
    classifier.unseen = classifier.score(valid)
    rows = joined(train, taken(valid, np.flatnonzero(valid.labels >= 0)))
    room.say(f"training again, on all {len(rows):,} rows")
    none = taken(valid, np.zeros(0, np.int64))
    # without validation rows no epoch is better than another, so none may end the training early
    classifier.fitted(lambda: classifier.pose(rows, none, epochs=epochs, patience=0), work, room)
    return {"refit_rows": len(rows), "refit_s": time.monotonic() - began}
