"""A large table through the whole loop: how long from a CSV to a champion, and how much memory at most.

    python benchmarks/large_table.py [--rows 1000000] [--columns 30]

Draws a table (two thirds numbers, a tenth of their cells missing, one third categories; five of the columns matter),
drafts its config by `llmops init`, and runs it unchanged in a scratch folder; the process tree's memory is sampled. The
last line is JSON: seconds of all and of each stage, what `need` foresaw, peak memory, and ROC AUC through the server.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

EVERY_S = 0.25


def write(path: Path, rows: int, columns: int) -> None:
    """The CSV."""
    import pyarrow as pa
    import pyarrow.csv as pc

    rng, numbers = np.random.default_rng(0), round(columns * 2 / 3)
    table: dict[str, Any] = {}
    for place in range(numbers):
        values = np.round(rng.lognormal(3, 1, rows), 2)
        table[f"amount{place}"] = pa.array(values, mask=rng.random(rows) < 0.1)
    score = np.log(table["amount0"].fill_null(20.0).to_numpy()) - 4 + 0.02 * table["amount1"].fill_null(20.0).to_numpy()
    score = np.where(table["amount2"].is_null().to_numpy(zero_copy_only=False), score + 1, score)
    for place in range(columns - numbers):
        codes = rng.integers(0, 4 + 5 * place, rows)
        table[f"kind{place}"] = pa.array([f"k{n}" for n in range(codes.max() + 1)]).take(pa.array(codes))
        score = score + 0.4 * np.sin(codes) * (place < 2)
    table["default"] = pa.array(np.where(rng.random(rows) < 1 / (1 + np.exp(1.5 - score)), "yes", "no"))
    pc.write_csv(pa.table(table), str(path))


def held_mb(process: psutil.Process) -> float:
    """Resident memory of a process and all below it; pages that they share are counted in each."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def turned(folder: Path) -> tuple[float, float]:
    """Seconds and peak memory of `llmops run`."""
    began, peak = time.perf_counter(), 0.0
    with (folder / "said.txt").open("w") as said:
        command = [sys.executable, "-m", "llmops.cli", "run", "table.yaml"]
        going = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        process = psutil.Process(going.pid)
        while going.poll() is None:
            peak = max(peak, held_mb(process))
            time.sleep(EVERY_S)
    if going.returncode:
        raise SystemExit((folder / "said.txt").read_text()[-3000:])
    return time.perf_counter() - began, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder / "table.csv", asked.rows, asked.columns)
        subprocess.run([sys.executable, "-m", "llmops.cli", "init", "--data", "table.csv"], cwd=folder, check=True)
        seconds, peak = turned(folder)
        reports = {
            path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/latest/*/report.json")
        }
        numbers = {name: report["numbers"] for name, report in reports.items()}
        found = {
            "rows": asked.rows,
            "columns": asked.columns,
            "seconds": round(seconds, 1),
            "peak_mb": round(peak),
            "stages_s": {name: round(told["stage_s"], 1) for name, told in numbers.items() if "stage_s" in told},
            "training_s": numbers["train"]["took_s"],
            "foreseen_s": numbers["train"]["predicted_s"],
            "foreseen_upper_s": numbers["train"]["predicted_upper_s"],
            "roc_auc": numbers["deploy"]["roc_auc"],
            "answer_difference": numbers["deploy"]["answer_difference"],
        }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
