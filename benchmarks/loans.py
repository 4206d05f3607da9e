"""The loans' next quarter through the command line: drift fires, old traffic stays silent, the retrain is better.

    python benchmarks/loans.py [--resamples 20]

In a scratch folder: `llmops run configs/risk.yaml`; the real server answers the applications of January and February
2026; `llmops feedback` names the columns that moved. Then, each against a copy of that champion, resamples of the old
world's held-out rows are asked instead: how many stay silent? The outcomes of the two months are imported, `llmops run
--if-due` retrains, and both versions are measured on March, which neither has seen, and on the old test rows. Also
measured: calibration on the old test rows, p50 and p95 of single calls with three reasons, and rows a second in calls
of 64 with and without reasons. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.command import llmops, served

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/risk.yaml"
MARCH = "2026-03-01"
ASKED = 1200
"""Rows of the old world in one resample."""
CALL = 64
SINGLE = 300
Row = dict[str, Any]


@contextmanager
def client_of(folder: Path) -> Iterator[httpx.Client]:
    """A client of the champion's server."""
    with served(folder, CONFIG) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def read(path: Path) -> list[Row]:
    """Rows as a client would send them: empty cells are null."""
    with path.open(encoding="utf-8") as stream:
        return [{name: cell or None for name, cell in row.items()} for row in csv.DictReader(stream)]


def ask(client: httpx.Client, rows: Sequence[Row], **also: Any) -> list[dict[str, Any]]:
    """Answers in calls of 64."""
    said = []
    for at in range(0, len(rows), CALL):
        answer = client.post("/v1/predict", json=[{**row, **also} for row in rows[at : at + CALL]])
        said += answer.raise_for_status().json()["results"]
    return said


def asked_of(row: Row) -> Row:
    """What a request holds of a row: no outcome."""
    return {name: cell for name, cell in row.items() if name != "default"}


def old_world(folder: Path) -> list[Row]:
    """The test rows of the champion's data set, as they stand in the file."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "runs/risk/latest/prepare/dataset/test.parquet")
    lines = {int(str(origin).rpartition(":")[2]) for origin in table["(origin)"].to_pylist()}
    return [row for line, row in enumerate(read(folder / "data/loans/loans.csv"), 2) if line in lines]


def verdict(folder: Path) -> dict[str, Any]:
    """What feedback last said."""
    path = folder / "runs/risk/latest/feedback/verdict.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def fired(folder: Path) -> list[str]:
    """The tests that fired, after feedback read the log."""
    llmops(folder, "feedback", CONFIG)
    tests = verdict(folder)["drift"]["tests"]
    return [name for name, found in tests.items() if found["fires"]]


def auc(folder: Path, rows: Sequence[Row], outcomes: dict[str, str]) -> tuple[float, float]:
    """ROC AUC and expected cost (5:1) of the champion on rows whose outcome is known."""
    from sklearn.metrics import roc_auc_score

    with client_of(folder) as client:
        said = ask(client, [asked_of(row) for row in rows], reasons=0)
    event = np.array([outcomes[row["loan_id"]] == "yes" for row in rows])
    alarm = np.array([one["label"] == "yes" for one in said])
    score = [one["probabilities"]["yes"] for one in said]
    return float(roc_auc_score(event, score)), float((5.0 * (event & ~alarm) + (~event & alarm)).mean())


def speed(folder: Path, rows: Sequence[Row]) -> dict[str, float]:
    """Single calls with reasons, and calls of 64 with and without."""
    with client_of(folder) as client:
        took = []
        for row in [*rows[:20], *rows[:SINGLE]]:
            began = time.perf_counter()
            client.post("/v1/predict", json=row).raise_for_status()
            took.append((time.perf_counter() - began) * 1000)
        rates = {}
        for name, count in (("rows_per_s_with_reasons", 3), ("rows_per_s", 0)):
            began = time.perf_counter()
            ask(client, rows, reasons=count)
            rates[name] = round(len(rows) / (time.perf_counter() - began))
    p50, p95 = np.percentile(took[20:], [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), **rates}


def fresh(folder: Path, name: str) -> Path:
    """A copy of the project as it stood after its first turn."""
    made = folder.parent / name
    shutil.copytree(folder, made)
    return made


def silent(folder: Path, rows: Sequence[Row], resamples: int) -> int:
    """How many resamples of old rows let no test fire."""
    quiet, rng = 0, np.random.default_rng(0)
    for number in range(resamples):
        place = fresh(folder, f"old-{number}")
        drawn = [rows[at] for at in rng.choice(len(rows), min(ASKED, len(rows) // 2), replace=False)]
        with client_of(place) as client:
            ask(client, [asked_of(row) for row in drawn], reasons=0)
        quiet += not fired(place)
        shutil.rmtree(place)
        sys.stderr.write(f"old world {number + 1}: {quiet} silent\n")
    return quiet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bank"
        for name in ("configs", "data"):
            shutil.copytree(ROOT / name, folder / name)
        llmops(folder, "run", CONFIG)
        first = json.loads((folder / "runs/risk/latest/deploy/report.json").read_text())["numbers"]
        old = old_world(folder)
        found: dict[str, Any] = {
            "calibration_error": first["calibration_error"],
            "answer_difference": first["answer_difference"],
            "expected_cost": first["expected_cost"],
            **speed(fresh(folder, "speed"), [asked_of(row) for row in old]),
            "old_silent": silent(folder, old, asked.resamples),
            "old_resamples": asked.resamples,
        }
        later = read(folder / "data/loans/later.csv")
        ends = {row["id"]: row["outcome"] for row in read(folder / "data/loans/outcomes.csv")}
        known = [row for row in later if row["granted"] < MARCH]
        march = [row for row in later if row["granted"] >= MARCH]
        olds = {row["loan_id"]: row["default"] for row in old}
        found["march_auc_before"], found["march_cost_before"] = auc(fresh(folder, "before"), march, ends)
        found["old_auc_before"], _ = auc(folder.parent / "before", old, olds)
        with client_of(folder) as client:
            ask(client, [asked_of(row) for row in known])
        found["fired"] = fired(folder)
        (folder / "ends.csv").write_text(
            "id,outcome\n" + "".join(f"{row['loan_id']},{ends[row['loan_id']]}\n" for row in known)
        )
        llmops(folder, "feedback", CONFIG, "--import", "ends.csv")
        llmops(folder, "run", CONFIG, "--if-due")
        found["march_auc_after"], found["march_cost_after"] = auc(fresh(folder, "after"), march, ends)
        found["old_auc_after"], _ = auc(folder.parent / "after", old, olds)
    rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in found.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
