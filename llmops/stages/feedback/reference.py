"""What the traffic is compared with: rows that the model was not trained on, answered by the champion itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.bundle.predictor import Predictor
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.cleaning import cleaner
from llmops.records.hashing import normalise
from llmops.records.redaction import KINDS, redact
from llmops.records.trafficreader import Logged
from llmops.stages.feedback.domain import words
from llmops.stages.feedback.drift import ABSTAINS, Sample

Clean = Callable[[str], str]
HELD_OUT = 500
"""Rows of each split that the champion answers; more cost time and tell nothing new."""


def split(dataset: Path, name: str) -> list[Row]:
    """The rows of one split of the prepared data set."""
    path = dataset / f"{name}.jsonl"
    try:
        # Not splitlines: a text may hold U+2028 and its like, which JSON does not escape.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_labels(dataset: Path) -> list[str]:
    """The class labels of the prepared data set."""
    path = dataset / "labels.json"
    try:
        return list(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def held_out(dataset: Path, seed: int, outside: str | None) -> tuple[list[str], list[str]]:
    """Texts of the validation rows and of the test rows, `HELD_OUT` of each at most.

    Out-of-scope rows never train, so all of them lie in these two; they are thinned to their share of the whole
    data set, or the comparison would expect far too many of them.
    """
    trained = sum("made_from" not in row for row in split(dataset, "train"))
    parts = split(dataset, "valid"), split(dataset, "test")
    inside = trained + sum(row["label"] != outside for part in parts for row in part)
    beyond = sum(row["label"] == outside for part in parts for row in part)
    share, draw = beyond / max(inside, 1), random.Random(seed)
    return _thinned(parts[0], share, outside, draw), _thinned(parts[1], share, outside, draw)


def _thinned(rows: Sequence[Row], share: float, outside: str | None, draw: random.Random) -> list[str]:
    """Texts drawn from `rows`, with `share` times as many out-of-scope ones as others at most."""
    texts = [row["text"] for row in rows if row["label"] != outside]
    beyond = [row["text"] for row in rows if row["label"] == outside]
    texts += draw.sample(beyond, min(round(len(texts) * share), len(beyond)))
    return draw.sample(texts, min(len(texts), HELD_OUT))


def known_words(dataset: Path, see: Clean) -> set[str]:
    """Every word of the training texts; made-up rows (typos, swapped words) teach no words."""
    return {word for row in split(dataset, "train") if "made_from" not in row for word in words(see(row["text"]))}


def seen_as(cleaning: dict[str, Any]) -> Clean:
    """How both sides are looked at: cleaned as the model does, personal data redacted as the log does. Without
    this, a placeholder or a capital letter that only one side can have would pass for drift."""
    clean = cleaner(cleaning)
    return lambda text: redact(clean(text), KINDS)


def answered(predictor: Predictor, texts: Sequence[str], see: Clean) -> Sample:
    """The champion's answers to `texts`."""
    field = predictor.codec.one
    requests = [predictor.codec.Request(**{field: text}) for text in texts if text.strip()]
    answers = predictor.answer_all(requests)
    return Sample(
        [ABSTAINS if answer.abstained else answer.best for answer in answers],
        np.array([answer.probability for answer in answers]),
        [see(getattr(request, field)) for request in requests],
    )


def logged(rows: Sequence[Logged], see: Clean) -> Sample:
    """Logged requests as a sample, newest first. A question asked many times counts once: the data set has no
    duplicates either, and copies would make every test surer than it may be."""
    seen: set[str] = set()
    kept: list[tuple[Logged, str]] = []
    for row in reversed(rows):
        if row.probability is None or row.label is None:
            continue
        text = "" if row.text is None else see(row.text)
        key = normalise(text)
        if text and key in seen:
            continue
        seen.add(key)
        kept.append((row, text))
    return Sample(
        [ABSTAINS if row.abstained else str(row.label) for row, _ in kept],
        np.array([row.probability for row, _ in kept]),
        [text for _, text in kept if text],
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"the data set cannot be read: {error}", str(path), "make it again: llmops prepare CONFIG")
