"""The linear baseline that any model must beat: TF-IDF and logistic regression (scikit-learn). No torch here."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.metrics import figures

MOST_ROWS = 50_000
"""More training rows than this make the baseline slow and hardly better; the first ones by their id are taken."""
SAMPLE = 1000
WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
"""Characters of scripts that put no space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def score_dataset(section: TextClassificationSection, dataset: Path) -> dict[str, float | None]:
    """Fit on a data set's train.jsonl; {"valid": metric, "test": metric}, None for a split without in-scope rows."""
    rows = {split: read_rows(dataset / f"{split}.jsonl") for split in ("train", "valid", "test")}
    labels = json.loads((dataset / "labels.json").read_bytes())
    return score_rows(rows["train"], {split: rows[split] for split in ("valid", "test")}, section.metric, labels)


def score_rows(
    train: Sequence[Row], splits: Mapping[str, Sequence[Row]], metric: str, labels: Sequence[str]
) -> dict[str, float | None]:
    """Fit on `train` ({"text", "label"} rows); the metric on each split. Rows with a label that is not among `labels`
    (of two the event last) are left out.

    Raises DataError when the training rows have fewer than two classes.
    """
    number = {label: place for place, label in enumerate(labels)}
    inside = [row for row in train if row["label"] in number]
    if len(inside) > MOST_ROWS:
        inside = sorted(inside, key=lambda row: str(row.get("id") or row["text"]))[:MOST_ROWS]
    if len({row["label"] for row in inside}) < 2:
        raise DataError("the training rows have fewer than two classes", do="check `task.label` and the sources")
    model = fit([row["text"] for row in inside], [number[row["label"]] for row in inside])
    return {name: _score(model, rows, number, metric) for name, rows in splits.items()}


def fit(texts: list[str], labels: list[int]) -> Any:
    """A fitted pipeline."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # C=10: short texts and many classes want less shrinking than scikit-learn's default.
    model = make_pipeline(features(texts), LogisticRegression(C=10.0, max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is nearly converged is a baseline
        return model.fit(texts, labels)


def features(texts: list[str]) -> Any:
    """TF-IDF, not fitted yet, of words and pairs of words; for scripts without spaces, of runs of 1 to 3 characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    characters = writes_without_spaces(texts)
    return TfidfVectorizer(
        analyzer="char" if characters else "word",
        ngram_range=(1, 3) if characters else (1, 2),
        token_pattern=None if characters else r"(?u)\b\w+\b",
        sublinear_tf=True,
        max_features=200_000,
        dtype=np.float32,
    )


def writes_without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters of a sample belong to a script that puts no space between words."""
    sample = "".join(texts[:: max(1, len(texts) // SAMPLE)])
    letters = sum(character.isalpha() for character in sample)
    return len(WITHOUT_SPACES.findall(sample)) > letters / 2


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSON-lines file; none when there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _score(model: Any, rows: Sequence[Row], number: Mapping[str, int], metric: str) -> float | None:
    inside = [row for row in rows if row["label"] in number]
    if not inside:
        return None
    probabilities = np.zeros((len(inside), len(number)))
    probabilities[:, model.classes_] = model.predict_proba([row["text"] for row in inside])
    return figures(np.array([number[row["label"]] for row in inside]), probabilities)[metric]
