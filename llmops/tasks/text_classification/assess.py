"""What raw answers are worth: metrics, agreement with another model, temperature and abstaining. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.engine.ragged import Ragged
from llmops.tasks.text_classification import metrics
from llmops.tasks.text_classification.abstention import choose, sure
from llmops.tasks.text_classification.calibration import fit_temperature, softmax
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.tradeoff import figures, parting


def truth(dataset: Path, split: str) -> np.ndarray[Any, Any]:
    """Class numbers of a split, int64 [rows], -1 for rows outside every class."""
    return Ragged.read(dataset / f"{split}.safetensors").labels


def quality(
    section: TextClassificationSection, dataset: Path, split: str, logits: np.ndarray[Any, Any]
) -> dict[str, float]:
    """The metrics (metrics.py) of logits, float32 [rows, classes], in the split's order."""
    return metrics.figures(truth(dataset, split), softmax(logits))


def agreement(dataset: Path, split: str, logits: np.ndarray[Any, Any], others: np.ndarray[Any, Any]) -> float:
    """Share of a split's rows on which two models, logits [rows, classes] each, give the same label.

    Only rows that belong to a class count: outside every class no label is right, the best two lie close together,
    and what the user sees there is whether the server abstains.
    """
    inside = truth(dataset, split) >= 0
    same = logits.argmax(axis=1) == others.argmax(axis=1)
    return float(same[inside].mean()) if inside.any() else float(same.mean())


def rowwise(
    section: TextClassificationSection, dataset: Path, split: str, logits: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Whether each row of a class gets its label, float64 [rows of a class]."""
    labels = truth(dataset, split)
    inside = labels >= 0
    right: np.ndarray[Any, Any] = (logits[inside].argmax(axis=1) == labels[inside]).astype(np.float64)
    return right


def calibrate(
    section: TextClassificationSection, dataset: Path, logits: np.ndarray[Any, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fitted on the validation split's logits: ({"temperature", "detector", "threshold"}, what they do there).

    What they do: {"outside_recall", "coverage", "answered_accuracy",
    "outside_auroc" (how well the detector parts rows of a class from rows of none; 0.5 is chance), and, where
    `task.abstain` cannot be had, "abstain_note", a warning}.
    """
    labels = truth(dataset, "valid")
    temperature = fit_temperature(logits, labels)
    chosen = choose(section.abstain, logits, labels, temperature)
    rows = sure(chosen.detector, logits, labels, temperature)
    does: dict[str, Any] = {
        **figures(rows, chosen.threshold),
        "outside_auroc": parting(rows),
        **({"abstain_note": chosen.note} if chosen.note else {}),
    }
    return {"temperature": temperature, "detector": chosen.detector, "threshold": chosen.threshold}, does
