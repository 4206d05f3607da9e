"""Labels of held-out rows that no training row has: nothing can learn them, so nothing can be measured by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

import numpy as np

from llmops.core.errors import DataError
from llmops.stages.prepare.batch import Batch
from llmops.stages.prepare.rows import Dropped


def trained_labels(train: Batch) -> set[str]:
    """The labels of the training rows."""
    return {label for labels in train.labels_of_rows() for label in labels}


def refuse_unknown(test: Batch, known: Container[str], name: str, several: bool) -> None:
    """Raise DataError where the user's test file `name` has labels that are not `known`."""
    lost = _unknown(test, known)
    first = next((place for place, labels in enumerate(lost) if labels), None)
    if first is None:
        return
    labels = sorted({label for names in lost for label in names})
    outside = "" if several else "; rows that belong to no class need their label as `task.outside`"
    raise DataError(
        f"{name} has labels that no training row has: {', '.join(labels[:5])}.",
        where=test.origin(first),
        do=f"add training rows for them{outside}",
    )


def without_unknown(batch: Batch, known: Container[str], split: str, dropped: Dropped) -> tuple[Batch, Counter[str]]:
    """The rows with `known` labels alone, and the rows of each other label: it is taken out of rows that have known
    ones too; rows that have none but such go as `label_not_in_train`, for without it they would say that no label
    fits."""
    labels, lost = batch.labels_of_rows(), _unknown(batch, known)
    if not any(lost):
        return batch, Counter()
    gone = np.array([bool(out) and len(out) == len(told) for out, told in zip(lost, labels, strict=True)], bool)
    places = np.flatnonzero(gone)
    dropped.drop_all(batch, places, "label_not_in_train", [{"split": split}] * len(places))
    counts = Counter(label for names in lost for label in names)
    if any(out and not all_ for out, all_ in zip(lost, gone, strict=True)):
        batch = batch.with_labels([tuple(label for label in told if label in known) for told in labels])
    return batch.where(~gone), counts


def _unknown(batch: Batch, known: Container[str]) -> list[list[str]]:
    """The labels of each row that are not known."""
    return [[label for label in labels if label not in known] for labels in batch.labels_of_rows()]
