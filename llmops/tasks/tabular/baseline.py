"""The baseline that any model must beat: a linear model on the same features."""

from __future__ import annotations

from pathlib import Path

from llmops.tasks.tabular.arrays import Arrays, read_labels
from llmops.tasks.tabular.config import LinearSection, TabularSection
from llmops.tasks.tabular.features import Plan
from llmops.tasks.tabular.linear import fit_linear
from llmops.tasks.tabular.quality import figures, unsettled


def score_dataset(section: TabularSection, dataset: Path) -> dict[str, float | None]:
    """Fit on the training rows; {"valid", "test"}: the task's metric, None for a split without rows."""
    classes = len(read_labels(dataset))
    train = Arrays.read(dataset, "train")
    model = fit_linear(train, classes, LinearSection(), Plan.read(dataset).directions)
    found: dict[str, float | None] = {}
    for split in ("valid", "test"):
        rows = Arrays.read(dataset, split)
        told = figures(section, unsettled(classes), model.raw(rows.x), rows.y, rows.weight) if len(rows) else {}
        found[split] = told.get(section.metric_name)
    return found
