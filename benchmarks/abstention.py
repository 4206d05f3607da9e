"""Which measure of certainty tells questions of no class apart, and what each wish of `task.abstain` gives.

    python benchmarks/abstention.py RUN TEXT LABEL OUTSIDE        # runs/support/latest utterance intent out_of_scope

RUN is a run of text classification with a pretrained encoder, up to `train`. One table of detectors: the area under the
ROC curve of rows of a class against rows of none, and the outside recall where 95 % of the rows of a class get an
answer, on validation and on test; the detectors of detectors.py, and those that read the encoder's vector beside the
training rows (Lee et al. 2018, Sun et al. 2022). Another table: thresholds chosen on validation, and what they do on
test.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.finetune import say
from llmops.core.report import markdown_table
from llmops.engine.ragged import Ragged
from llmops.tasks.text_classification.abstention import Wish, choose, sure
from llmops.tasks.text_classification.calibration import fit_temperature
from llmops.tasks.text_classification.config import AbstainSection, TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.detectors import DETECTORS, certainty
from llmops.tasks.text_classification.learner import TextClassifier
from llmops.tasks.text_classification.problem import score
from llmops.tasks.text_classification.tradeoff import Sure, figures, parting, tradeoff

Array = np.ndarray[Any, Any]
SPLITS = ("train", "valid", "test")
WISHES: list[Any] = [
    None, "never", {"coverage": 0.95}, {"coverage": 0.9}, {"answered_accuracy": 0.95}, {"answered_accuracy": 0.97},
    {"outside_recall": 0.8}, {"outside_recall": 0.9}, {"cost": {"wrong": 2}}, {"cost": {"wrong": 5}},
]  # fmt: skip
RIDGE = 1e-3
"""Added to the covariance's diagonal, as a share of its mean."""


def read(run: Path, section: TextClassificationSection) -> dict[str, tuple[Array, Array, Array]]:
    """Of each split: logits [rows, classes], the encoder's vectors [rows, width], class numbers [rows]."""
    learner = TextClassifier(section, TextTrainSection(), 1)
    learner.load(run / "train" / "model")
    network: Any = learner.trained()
    pad, found = learner.pad(), {}
    for split in SPLITS:
        rows = Ragged.read(run / "prepare" / "dataset" / f"{split}.safetensors")

        def pooled(places: Array, rows: Ragged = rows) -> torch.Tensor:
            tokens, mask = rows.padded(places, pad)
            pooled: torch.Tensor = network.pooled(
                torch.from_numpy(tokens), None if mask is None else torch.from_numpy(mask)
            )
            return pooled

        vectors = score(pooled, rows.lengths)
        with torch.no_grad():
            logits = network.classify(torch.from_numpy(vectors)).numpy()
        found[split] = logits, vectors.astype(np.float64), rows.labels
    return found


def mahalanobis(vectors: Array, labels: Array) -> Callable[[Array], Array]:
    """Less the squared distance to the nearest class mean, by the covariance within classes (Lee et al. 2018)."""
    means = np.stack([vectors[labels == number].mean(0) for number in range(labels.max() + 1)])
    within = vectors - means[labels]
    spread = within.T @ within / len(within)
    inverse = np.linalg.inv(spread + RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread)))

    def closeness(asked: Array) -> Array:
        apart = np.stack([np.einsum("ij,jk,ik->i", asked - mean, inverse, asked - mean) for mean in means], 1)
        nearest: Array = -apart.min(1)
        return nearest

    return closeness


def neighbours(vectors: Array, k: int) -> Callable[[Array], Array]:
    """Cosine to the k-th nearest training row (Sun et al. 2022)."""
    known = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def closeness(asked: Array) -> Array:
        cosines = asked @ known.T / np.linalg.norm(asked, axis=1, keepdims=True)
        nearest: Array = np.sort(cosines, 1)[:, -k]
        return nearest

    return closeness


def compare(found: dict[str, tuple[Array, Array, Array]], temperature: float) -> list[list[Any]]:
    """A line for each detector: area and outside recall at 95 % coverage, on validation and test."""
    _, vectors, labels = found["train"]
    by_vector = {"mahalanobis": mahalanobis(vectors, labels)}
    by_vector |= {f"neighbours, k = {k}": neighbours(vectors, k) for k in (1, 5, 20)}
    lines = []
    for name in [*DETECTORS, *by_vector]:
        line: list[Any] = [name]
        for split in ("valid", "test"):
            logits, asked, truth = found[split]
            scores = by_vector[name](asked) if name in by_vector else certainty(name, logits, temperature)  # type: ignore[arg-type]
            rows = Sure(scores, logits.argmax(1) == truth, truth < 0)
            curve = tradeoff(rows)
            line += [parting(rows), float(curve.outside_recall[curve.coverage >= 0.95].max())]
        lines.append(line)
    return lines


def told(said: Any, found: dict[str, tuple[Array, Array, Array]], temperature: float) -> list[Any]:
    """What a wish gives: detector, threshold, and the three figures on validation and test."""
    wish: Wish = None if said is None else AbstainSection.model_validate(said)
    chosen = choose(wish, found["valid"][0], found["valid"][2], temperature)
    line: list[Any] = ["(default)" if said is None else str(said), chosen.detector, chosen.threshold]
    for split in ("valid", "test"):
        logits, _, truth = found[split]
        does = figures(sure(chosen.detector, logits, truth, temperature), chosen.threshold)
        line += [does[name] for name in ("coverage", "answered_accuracy", "outside_recall")]
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    for column in ("text", "label", "outside"):
        parser.add_argument(column)
    asked = parser.parse_args()
    section = TextClassificationSection(text=asked.text, label=asked.label, outside=asked.outside)
    found = read(asked.run, section)
    temperature = fit_temperature(found["valid"][0], found["valid"][2])
    for split in SPLITS[1:]:
        truth = found[split][2]
        say(f"{split}: {(truth >= 0).sum()} rows of a class, {(truth < 0).sum()} of none")
    columns = ["detector", "area, valid", "recall at 95 %, valid", "area, test", "recall at 95 %, test"]
    say(markdown_table(columns, compare(found, temperature)) + "\n")
    three = ("coverage", "accuracy", "recall")
    columns = ["abstain", "detector", "threshold", *(f"{name}, {split}" for split in SPLITS[1:] for name in three)]
    say(markdown_table(columns, [told(said, found, temperature) for said in WISHES]))


if __name__ == "__main__":
    main()
