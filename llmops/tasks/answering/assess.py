"""What raw answers are worth: ranks and figures, agreement with another model, the confidence's curve and threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.report import Number
from llmops.tasks.answering.calibration import best_scores, choose_threshold, fit_confidence
from llmops.tasks.answering.codec import AnsweringSettings
from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.ranking import blend, figures, ranks
from llmops.tasks.answering.truth import Truth, truth

Array = np.ndarray[Any, Any]


def scores_of(section: AnsweringSection, found: Truth, similarity: Array) -> Array:
    """What entries are ranked by, float32 [rows, entries], from cosines."""
    return blend(similarity, found.shares, section.lexical) if section.lexical else similarity


def quality(section: AnsweringSection, dataset: Path, split: str, similarity: Array) -> dict[str, float]:
    """recall_at_1, recall_at_5 and mrr of cosines, float32 [rows, entries], in the split's order."""
    found = truth(dataset, split)
    return figures(ranks(scores_of(section, found, similarity), found.right))


def agreement(found: Truth, scores: Array, others: Array) -> float:
    """Share of rows on which two models put the same entry first; 1 without rows."""
    return float((scores.argmax(1) == others.argmax(1)).mean()) if found.rows else 1.0


def calibrate(section: AnsweringSection, dataset: Path, similarity: Array) -> tuple[dict[str, Any], dict[str, Number]]:
    """Fitted on the validation split's cosines: ({"slope", "intercept", "threshold"}, what the threshold does there).

    Half of the examples are the questions, half are the same questions with their right entries taken out, so that
    a confidence is right where every second question has no answer in the index.
    """
    found = truth(dataset, "valid")
    best, hit, without = best_scores(scores_of(section, found, similarity), found.right)
    slope, intercept = fit_confidence(np.concatenate([best, without]), np.concatenate([hit, np.zeros(len(hit), bool)]))
    curve = AnsweringSettings(max_tokens=1, lexical=0, slope=slope, intercept=intercept)
    sure = np.array([curve.confidence(score) for score in best])
    unsure = np.array([curve.confidence(score) for score in without])
    threshold = choose_threshold(sure[hit], np.concatenate([sure[~hit], unsure]))
    settings = {"slope": slope, "intercept": intercept, "threshold": threshold}
    return settings, abstention(sure >= threshold, hit, unsure < threshold)


def abstention(answered: Array, hit: Array, withheld: Array) -> dict[str, Number]:
    """What a threshold does: {"answered_share", "answered_accuracy": share of the answered whose first entry is right,
    "unanswerable_recall": share withheld of the questions whose right entries were taken out}; None without rows."""
    return {
        "answered_share": float(answered.mean()) if len(answered) else None,
        "answered_accuracy": float(hit[answered].mean()) if answered.any() else None,
        "unanswerable_recall": float(withheld.mean()) if len(withheld) else None,
    }
