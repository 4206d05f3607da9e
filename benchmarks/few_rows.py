"""A few rows a class of BANKING77: what `llmops init` and `llmops run` reach, and what each trick is worth.

    python benchmarks/few_rows.py ../shared/data/banking77 [--rows 10] [--draws 5] [--only NAME ...]

Each draw takes `--rows` rows of each of the 77 classes from train.csv by its seed; test.csv is the test file. The
config is what `init` writes, but for the line that names the test file. Accuracy is deploy's, through the real server,
on all test rows; seconds are of the whole `llmops run`.

    as init writes it    few: {}, describe: labels
    as before            all weights at 3e-4, a search of 60 s; validation rows are left out
    no words             without describe
    contrast             few: {contrast: 1}
    no refit             few: {refit: false}
    head alone           method: frozen
    unlabelled           the other rows of train.csv as texts without labels

Arms alternate within a draw. Mean and range of the draws; the last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command import llmops

TRAIN = "model: sentence-transformers/all-MiniLM-L6-v2, precision: float32"
FEW = "epochs: 6, learning_rate: 5.0e-5"
ARMS: dict[str, list[str]] = {
    "as init writes it": [],
    "as before": [
        f"train={{{TRAIN}, epochs: 6, learning_rate: 3.0e-4}}",
        "task.describe=null",
        "tune={trials: 5, seconds: 60, look: null, sampler: tpe, space: {learning_rate: {log: [1.0e-4, 6.0e-4]}}}",
    ],
    "no words": ["task.describe=null"],
    "contrast": [f"train={{{TRAIN}, {FEW}, few: {{contrast: 1}}}}"],
    "no refit": [f"train={{{TRAIN}, {FEW}, few: {{refit: false}}}}"],
    "head alone": [f"train={{{TRAIN}, epochs: 60, learning_rate: 5.0e-5, method: frozen, few: {{}}}}"],
    "unlabelled": ["prepare.unlabelled=others.csv"],
}
Text = tuple[str, str]


def read(path: Path) -> list[Text]:
    """(text, class) of a file of the data set."""
    with path.open(encoding="utf-8") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def drawn(rows: list[Text], each: int, seed: int) -> list[Text]:
    """So many rows of each class, shuffled."""
    chance = random.Random(seed)
    of_class: dict[str, list[Text]] = {}
    for row in rows:
        of_class.setdefault(row[1], []).append(row)
    found = [row for label in sorted(of_class) for row in chance.sample(of_class[label], each)]
    chance.shuffle(found)
    return found


def write(path: Path, head: list[str], rows: list[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *rows])


def turned(data: Path, each: int, seed: int, arm: str) -> dict[str, float]:
    """One `init` and `run` in a folder of its own."""
    rows, test = read(data / "train.csv"), read(data / "test.csv")
    few = drawn(rows, each, seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder / "few.csv", ["text", "category"], few)
        write(folder / "test.csv", ["text", "category"], test)
        write(
            folder / "others.csv", ["text"], [[text] for text in sorted({text for text, _ in rows} - dict(few).keys())]
        )
        llmops(folder, "init", "--data", "few.csv", "--project", "few")
        share = 0.15 if len(few) >= 300 else 0.2
        asked = [f"prepare.steps.2.split={{valid: {share}, test_file: test.csv}}", f"seed={seed}", *ARMS[arm]]
        began = time.perf_counter()
        llmops(folder, "run", "few.yaml", *(word for one in asked for word in ("--set", one)))
        seconds = time.perf_counter() - began
        numbers = {
            path.parent.name: json.loads(path.read_text())["numbers"]
            for path in folder.glob("runs/few/latest/*/report.json")
        }
    return {"accuracy": numbers["deploy"]["accuracy"], "seconds": seconds, "size_mb": numbers["compress"]["size_mb"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    asked = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in asked.only}
    for seed in range(asked.draws):
        for arm, told in found.items():
            told.append(turned(asked.data.resolve(), asked.rows, seed, arm))
            sys.stderr.write(f"draw {seed}, {arm}: {told[-1]}\n")
    said = {
        arm: {
            "accuracy": round(statistics.mean(one["accuracy"] for one in told), 4),
            "draws": [round(one["accuracy"], 4) for one in told],
            "seconds": round(max(one["seconds"] for one in told)),
            "size_mb": max(one["size_mb"] for one in told),
        }
        for arm, told in found.items()
    }
    sys.stdout.write(json.dumps({"rows_a_class": asked.rows, "draws": asked.draws, "arms": said}) + "\n")


if __name__ == "__main__":
    main()
