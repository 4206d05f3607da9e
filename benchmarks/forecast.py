"""How well need foresees a training: `llmops train` on five configs, what was foreseen beside what it took.

    python benchmarks/forecast.py ../shared/data [--only NAME ...]

A fine-tuned MiniLM, MiniLM with adapters on long texts, a Transformer and a language model from scratch, and an
answering encoder, each on a part of its data, by the command that a user types. Per epoch (with its evaluation) and at
the peak the forecast should be within 25 %, and the whole training under the upper bound. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WITHIN = 0.25
CLASSIFY = "task: {{name: text-classification, text: {text}, label: {label}, max_tokens: {tokens}}}\n"
SPLIT = "  steps: [clean: {}, dedup: {near: null}, split: {valid: 0.1, test: 0.1}]\n"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

CONFIGS = {
    "minilm": (
        ("banking77/train.csv", 2000),
        CLASSIFY.format(text="text", label="category", tokens=128),
        f"{{model: {MINILM}, epochs: 2, learning_rate: 3.0e-4}}",
    ),
    "minilm-lora": (
        ("imdb_sample/train.csv", 300),
        CLASSIFY.format(text="text", label="label", tokens=256),
        f"{{model: {MINILM}, method: lora, epochs: 2, learning_rate: 1.0e-3, batch_size: 16}}",
    ),
    "transformer": (
        ("chn_sentiment/ChnSentiCorp_htl_all.csv", 2500),
        CLASSIFY.format(text="review", label="label", tokens=256),
        "{model: transformer, epochs: 2, learning_rate: 1.0e-3}",
    ),
    "answering": (
        ("bank_faq/BankFAQs.csv", 900),
        "task: {name: answering, question: Question, answer: Answer}\n",
        "{method: full, epochs: 3, batch_size: 16}",
    ),
    "language-model": (
        ("tinyshakespeare/input.txt", None),
        "task: {name: text-generation, objective: language-model, context: 64}\n",
        "{model: llama, vocabulary: 512, width: 128, layers: 4, heads: 4, epochs: 2, batch_size: 16, "
        "learning_rate: 2.0e-3}",
    ),
}


def place(name: str, data: Path, folder: Path) -> Path:
    """The config and its data in a folder of their own; returns the config."""
    (source, rows), task, train = CONFIGS[name]
    text = (data / source).read_text(encoding="utf-8-sig")
    if rows is None:
        (folder / "text").mkdir()
        for number, part in enumerate(text[start : start + 20_000] for start in range(0, 400_000, 20_000)):
            (folder / "text" / f"{number:02}.txt").write_text(part, encoding="utf-8")
        where = "{path: text, rows: file}"
    else:
        lines = list(csv.reader(text.splitlines()))
        # files that list one class after the other are taken from evenly
        step = max(1, (len(lines) - 1) // rows)
        with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([lines[0], *lines[1::step][:rows]])
        where = "rows.csv"
    config = folder / f"{name}.yaml"
    prepare = f"prepare:\n  sources: [{where}]\n{SPLIT}"
    config.write_text(f"version: 1\nproject: {name}\n{task}need: {{probe_s: 6}}\n{prepare}train: {train}\n")
    return config


def figures(name: str, data: Path) -> dict[str, Any]:
    """The numbers of the train stage's report."""
    home = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="llmops-forecast-") as folder:
        config = place(name, data, Path(folder))
        command = [sys.executable, "-m", "llmops.cli", "train", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(home)})
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        report = Path(folder) / "runs" / name / "latest" / "train" / "report.json"
        found: dict[str, Any] = json.loads(report.read_bytes())["numbers"]
        return found


def judged(numbers: dict[str, Any]) -> dict[str, Any]:
    """Forecast over fact, and whether both are as they should be."""
    epoch = numbers["predicted_epoch_s"] / numbers["epoch_s"]
    memory = numbers["predicted_peak_memory_mb"] / numbers["peak_memory_mb"]
    under = numbers["took_s"] <= numbers["predicted_upper_s"]
    shown = ("epoch_s", "predicted_epoch_s", "took_s", "predicted_s", "predicted_upper_s")
    shown += ("peak_memory_mb", "predicted_peak_memory_mb")
    return {
        **{one: round(numbers[one], 1) for one in shown},
        "epoch_ratio": round(epoch, 3),
        "memory_ratio": round(memory, 3),
        "holds": abs(epoch - 1) <= WITHIN and abs(memory - 1) <= WITHIN and under,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=CONFIGS, default=list(CONFIGS))
    asked = parser.parse_args()
    found = {}
    for name in asked.only:
        found[name] = judged(figures(name, asked.data))
        one = found[name]
        sys.stdout.write(
            f"{name:15} epoch {one['predicted_epoch_s']} s foreseen, {one['epoch_s']} taken ({one['epoch_ratio']}); "
            f"peak {one['predicted_peak_memory_mb']:,.0f} MB foreseen, {one['peak_memory_mb']:,.0f} taken "
            f"({one['memory_ratio']}); whole {one['took_s']} s, at most {one['predicted_upper_s']}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
