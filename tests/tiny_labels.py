"""A tiny project whose texts have several labels: topics of tests/tiny.py, mixed, in a CSV with a separator."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from tests.tiny import FILLER, TOPICS

CONFIG = """\
version: 1
project: tiny-labels
task: {{name: text-classification, text: text, label: topics, labels: many, separator: ";"}}
need: {{probe_s: 0.2, accept: {{f1_micro: {{at_least: 0.6}}, above_baseline: null, parity: {{at_least: 0.9}}}}}}
prepare:
  sources: [{data}]
  steps: [clean: {{redact: [email]}}, dedup: {{}}, split: {{valid: 0.2, test: 0.2}}]
train: {{model: bag-of-words, epochs: 12, learning_rate: 3e-2, width: 16, vocabulary: 200, batch_size: 16}}
compress: {{candidates: [float32, int8], max_quality_loss: 0.2}}
deploy: {{port: 0}}
"""


def rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Texts with words of no, one, two or three topics among fillers, each with the list of its topics."""
    dice = random.Random(seed)
    made = []
    for index in range(count):
        topics = sorted(dice.sample(sorted(TOPICS), (1, 2, 1, 2, 3, 0)[index % 6]))
        words = dice.sample(FILLER, 5) + [word for topic in topics for word in dice.sample(TOPICS[topic].split(), 3)]
        dice.shuffle(words)
        made.append({"text": " ".join(words), "label": topics})
    return made


def write_rows(path: Path, count: int = 240, seed: int = 1) -> None:
    """A CSV in which the topics of a row stand in one cell."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "topics"])
        writer.writerows([row["text"], "; ".join(row["label"])] for row in rows(count, seed))


def project(folder: Path, count: int = 240) -> Path:
    """Write the data and the config into `folder`; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "data.csv", count)
    config = folder / "tiny-labels.yaml"
    config.write_text(CONFIG.format(data="data.csv"))
    return config
