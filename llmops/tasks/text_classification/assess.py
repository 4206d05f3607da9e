"""What raw answers are worth: metrics, agreement with another model, temperature and threshold. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.engine.ragged import Ragged
from llmops.tasks.text_classification.calibration import abstention, choose_threshold, fit_temperature, softmax
from llmops.tasks.text_classification.metrics import scores


def truth(dataset: Path, split: str) -> np.ndarray[Any, Any]:
    """Class numbers of a split, int64 [rows], -1 for rows outside every class."""
    return Ragged.read(dataset / f"{split}.safetensors").labels


def quality(dataset: Path, split: str, logits: np.ndarray[Any, Any]) -> dict[str, float]:
    """accuracy, f1_macro, f1_weighted, balanced_accuracy of logits, float32 [rows, classes], in the split's order."""
    return scores(truth(dataset, split), logits.argmax(axis=1), logits.shape[1])


def agreement(dataset: Path, split: str, logits: np.ndarray[Any, Any], others: np.ndarray[Any, Any]) -> float:
    """Share of a split's rows on which two models, logits [rows, classes] each, give the same label.

    Only rows that belong to a class count: outside every class no label is right, the best two lie close together,
    and what the user sees there is whether the server abstains.
    """
    inside = truth(dataset, split) >= 0
    same = logits.argmax(axis=1) == others.argmax(axis=1)
    return float(same[inside].mean()) if inside.any() else float(same.mean())


def calibrate(dataset: Path, logits: np.ndarray[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fitted on the validation split's logits: ({"temperature", "threshold"}, what the threshold does there:
    {"outside_recall", "coverage", "answered_accuracy"})."""
    labels = truth(dataset, "valid")
    temperature = fit_temperature(logits, labels)
    probabilities = softmax(logits, temperature)
    threshold = choose_threshold(probabilities, labels)
    return {"temperature": temperature, "threshold": threshold}, dict(abstention(probabilities, labels, threshold))
