"""The linear baseline of several labels: TF-IDF and one logistic regression for each label, against the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.tasks.text_classification.baseline import MOST_ROWS, features, read_rows
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.several.encoder import all_labels, multi_hot
from llmops.tasks.text_classification.several.metrics import figures


def score_dataset(section: TextClassificationSection, dataset: Path) -> dict[str, float | None]:
    """Fit on a data set's train.jsonl; the section's metric on {"valid", "test"}, None for a split without rows.

    A label is given from a probability of one half on, as scikit-learn's OneVsRestClassifier does."""
    found = baseline_figures(dataset)
    return {split: None if told is None else told[section.metric] for split, told in found.items()}


def baseline_figures(dataset: Path) -> dict[str, dict[str, float] | None]:
    """All metrics of the baseline on {"valid", "test"}. Raises DataError when no training row has a label."""
    train = read_rows(dataset / "train.jsonl")
    if len(train) > MOST_ROWS:
        train = sorted(train, key=lambda row: str(row.get("id") or row["text"]))[:MOST_ROWS]
    labels = sorted(all_labels(train))
    if not labels:
        raise DataError("no training row has a label", do="check `task.label` and the sources")
    model = fit([row["text"] for row in train], multi_hot([row["label"] for row in train], labels))
    return {split: _score(model, read_rows(dataset / f"{split}.jsonl"), labels) for split in ("valid", "test")}


def fit(texts: list[str], truth: np.ndarray[Any, Any]) -> Any:
    """A fitted pipeline; `truth` uint8 [rows, labels]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(features(texts), OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=200, tol=1e-3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is nearly converged is a baseline
        warnings.simplefilter("ignore", UserWarning)  # a label that all rows have, or none
        return model.fit(texts, truth)


def _score(model: Any, rows: Sequence[Row], labels: list[str]) -> dict[str, float] | None:
    if not rows:
        return None
    # A label that training lacks gets a column that is never given.
    known = [*labels, *sorted(all_labels(list(rows)) - set(labels))]
    true = multi_hot([row["label"] for row in rows], known).astype(bool)
    shares = np.zeros(true.shape)
    shares[:, : len(labels)] = model.predict_proba([row["text"] for row in rows])[:, -len(labels) :]
    return figures(true, shares >= 0.5, shares)
