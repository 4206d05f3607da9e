"""The baselines that any model must beat: how often each token stands in training; for preferences, "longer wins"."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.tasks.text_generation.config import TextGenerationSection

HELD_OUT = ("valid", "test")
Array = np.ndarray[Any, Any]


def baseline(section: TextGenerationSection, dataset: Path) -> dict[str, float | None]:
    """{"valid", "test"}: the baseline's figure in the task's metric on a prepared data set; None for a split without
    rows. Raises DataError when the data set cannot be read."""
    metric = section.metric_name
    if metric == "reward_accuracy":
        return {split: longer_wins(dataset / f"{split}.jsonl") for split in HELD_OUT}
    facts = json.loads((dataset / "generation.json").read_bytes())
    return {
        split: None if loss is None else in_metric(loss, metric, facts["bytes_per_token"][split])
        for split, loss in ((split, facts["unigram_loss"].get(split)) for split in HELD_OUT)
    }


def in_metric(loss: float, metric: str, bytes_per_token: float) -> float:
    """A loss in nats per trained token as `loss`, `perplexity` or `bits_per_byte`."""
    if metric == "perplexity":
        return math.exp(loss)
    return loss / math.log(2) / bytes_per_token if metric == "bits_per_byte" else loss


def unigram_losses(trained: dict[str, Array], vocabulary: int) -> dict[str, float | None]:
    """Nats per token of a unigram model with add-one smoothing (Laplace), fitted on `trained["train"]`: the trained
    tokens of each split, integers. None for a split without any."""
    counts = np.bincount(trained["train"], minlength=vocabulary).astype(np.float64) + 1
    nats = math.log(counts.sum()) - np.log(counts)
    return {split: float(nats[tokens].mean()) if len(tokens) else None for split, tokens in trained.items()}


def longer_wins(path: Path) -> float | None:
    """Share of a split's pairs whose chosen answer has more characters; an equal length counts as half."""
    won = []
    for line in _lines(path):
        row = json.loads(line)
        chosen, rejected = len(row["chosen"]), len(row["rejected"])
        won.append(1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0)
    return sum(won) / len(won) if won else None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except OSError as problem:
        raise DataError(f"The prepared rows cannot be read: {problem}", str(path), "run prepare again.") from problem
