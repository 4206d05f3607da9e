"""LabelsEncoder: as TextEncoder, but each row's labels become a line of 0 and 1, a column for each label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.tasks.text_classification.encoder import TextEncoder


class LabelsEncoder(TextEncoder):
    """Writes what TextEncoder does; the arrays' `labels` are uint8 [rows, labels]."""

    def labels(self, splits: Mapping[str, list[Row]]) -> list[str]:
        """The labels of the train split, sorted. Raises DataError when it has none, or another split has more."""
        labels = sorted(all_labels(splits["train"]))
        if not labels:
            raise DataError(
                "No training row has a label.", do="check `task.label`, and that the sources hold rows with labels."
            )
        if all(row["label"] == splits["train"][0]["label"] for row in splits["train"]):
            raise DataError(
                "All training rows have the same labels.",
                do="add rows without some of them; a row that no label fits has an empty list.",
            )
        for name, rows in splits.items():
            if unknown := sorted(all_labels(rows) - set(labels)):
                raise DataError(
                    f"{name} has labels that no training row has: {', '.join(unknown[:5])}.",
                    do="add training rows for them, or take them out.",
                )
        return labels

    def numbers(self, rows: list[Row], labels: list[str]) -> np.ndarray:
        """uint8 [rows, labels]."""
        return multi_hot([row["label"] for row in rows], labels)


def all_labels(rows: list[Row]) -> set[str]:
    """Every label of some rows."""
    return {label for row in rows for label in row["label"]}


def multi_hot(given: list[list[str]], labels: list[str]) -> np.ndarray:
    """uint8 [rows, labels]: 1 where a row has the label; labels that are not in the list are left out."""
    index = {label: number for number, label in enumerate(labels)}
    made = np.zeros((len(given), len(labels)), np.uint8)
    for row, names in enumerate(given):
        made[row, [index[name] for name in names if name in index]] = 1
    return made
