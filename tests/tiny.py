"""A tiny project for tests: a CSV that a bag of words learns in a second, and a config beside it."""

from __future__ import annotations

import csv
import random
from pathlib import Path

TOPICS = {
    "delivery": "parcel courier tracking late doorstep van shipped depot",
    "money": "refund card charged invoice payment bank euros price",
    "account": "password login email locked profile username reset settings",
}
FILLER = "please the my is about a so today and why can you help with it again".split()

CONFIG = """\
version: 1
project: tiny
task: {{name: text-classification, text: text, label: label}}
need: {{probe_s: 0.2, accept: {{accuracy: {{at_least: 0.6}}, above_baseline: null, parity: {{at_least: 0.9}}}}}}
prepare:
  sources: [{data}]
  steps: [clean: {{redact: [email]}}, dedup: {{}}, split: {{valid: 0.2, test: 0.2}}]
train: {{model: bag-of-words, epochs: 6, learning_rate: 1e-2, width: 16, vocabulary: 200}}
compress: {{candidates: [float32, int8], max_quality_loss: 0.2}}
deploy: {{port: 0}}
"""


def sentence(topic: str, dice: random.Random) -> str:
    """Words of a topic among fillers."""
    words = dice.sample(TOPICS[topic].split(), 3) + dice.sample(FILLER, 5)
    dice.shuffle(words)
    return " ".join(words)


def write_rows(path: Path, rows: int = 240, seed: int = 1) -> None:
    """A CSV with `rows` rows over three labels."""
    dice = random.Random(seed)
    names = sorted(TOPICS)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for index in range(rows):
            topic = names[index % len(names)]
            writer.writerow([sentence(topic, dice), topic])


def project(folder: Path, rows: int = 240) -> Path:
    """Write the data and the config into `folder`; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "data.csv", rows)
    config = folder / "tiny.yaml"
    config.write_text(CONFIG.format(data="data.csv"))
    return config
