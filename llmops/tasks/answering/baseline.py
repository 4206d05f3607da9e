"""The baseline that any model must beat: BM25 over the entries. It learns nothing, so no training row is read."""

from __future__ import annotations

from pathlib import Path

from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.ranking import figures, ranks
from llmops.tasks.answering.truth import truth


def score_dataset(section: AnsweringSection, dataset: Path) -> dict[str, float | None]:
    """{"valid": metric, "test": metric} of BM25, None for a split without rows."""
    return {split: score_split(dataset, split, section.metric) for split in ("valid", "test")}


def score_split(dataset: Path, split: str, metric: str) -> float | None:
    """The metric of BM25 on one split."""
    found = truth(dataset, split)
    return figures(ranks(found.shares, found.right))[metric] if found.rows else None
