"""Is `precision: auto` to be trusted? Ten verdicts, each found out anew, beside the true rates of whole epochs.

    python benchmarks/precision.py ROWS.csv [--text text] [--label category] [--verdicts 10] [--rows 2000]

MiniLM on the file's rows, in batches of 32, as `train` would compute them. Each verdict is measured on a network of its
own, nothing kept. True rates: rows a second over all batches in each precision, alternating, twice. One JSON line last.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from llmops.engine.choices import GAIN, gradient, measured_gain
from llmops.tasks import find
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.learner import TextClassifier

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SIZE = 32
TURNS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--verdicts", type=int, default=10)
    parser.add_argument("--rows", type=int, default=2000)
    asked = parser.parse_args()
    section = TextClassificationSection()
    train = TextTrainSection.model_validate({"model": MODEL, "batch_size": SIZE})
    with asked.file.open(encoding="utf-8", newline="") as stream:
        rows = [{"text": row[asked.text], "label": row[asked.label]} for row in csv.DictReader(stream)][: asked.rows]
    with tempfile.TemporaryDirectory(prefix="llmops-precision-") as place:
        folder = Path(place)
        splits = {"train": rows, "valid": rows[:64], "test": rows[:64]}
        find("text-classification").encoder(section, train).prepare(splits, folder)
        gains = []
        for _ in range(asked.verdicts):
            problem = TextClassifier(section, train, 1).problem(folder)
            gains.append(measured_gain(problem, train, SIZE))
            sys.stderr.write(f"bfloat16 is {gains[-1]:.2f} times as fast\n")
        problem = TextClassifier(section, train, 1).problem(folder)
        problem.network.train()
        rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
        for turn in range(TURNS):
            for name in sorted(rates, reverse=bool(turn % 2)):
                settings = train.model_copy(update={"precision": name})
                began = time.perf_counter()
                for batch in problem.plan(SIZE, turn, 1):
                    gradient(problem, settings, batch)
                rates[name].append(len(rows) / (time.perf_counter() - began))
    true = {name: statistics.median(found) for name, found in rates.items()}
    chosen = {"bfloat16" if gain >= GAIN else "float32" for gain in gains}
    worst = min(true[name] for name in chosen) / max(true.values())
    found = {
        "gains": [round(gain, 3) for gain in gains], "agree": len(chosen) == 1, "chosen": sorted(chosen),
        "rows_per_s": {name: round(rate, 1) for name, rate in true.items()}, "of_the_better": round(worst, 3),
    }  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
