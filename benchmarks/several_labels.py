"""Tickets with one to four labels through the command line: against one-vs-rest, and better after corrections.

    python -m benchmarks.several_labels [--rows 3200] [--folder FOLDER]

In a scratch folder: tickets.csv (tickets.py; 12 labels in one cell, 16 writers), `llmops init`, and `llmops run` of
what it wrote, but for the split, which goes by writer: about half of what validation and test say is said in words that
were not learnt. The model's micro F1 through the real server is compared with that of TF-IDF and one logistic
regression a label on the same rows, with its threshold of one half and with chosen ones. Then 300 tickets of four new
writers are asked; those that were labelled wrongly are corrected with lists of labels, `llmops feedback` hears of it,
and `llmops run` turns a second time. 300 more tickets of these writers are asked before and after. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.command import llmops, served
from benchmarks.tickets import OWN, tickets

CONFIG = "tickets.yaml"
KNOWN = OWN[:16]
"""Writers of the file; the others come later."""
NEW = 300
CALL = 50
SPLIT = ("--set", "prepare.steps.2.split={valid: 0.2, test: 0.25, by: group, group: writer}")
"""Of the sixteen writers three then validate and two test."""
Ticket = dict[str, Any]


@contextmanager
def client_of(folder: Path) -> Iterator[httpx.Client]:
    """A client of the champion's server."""
    with served(folder, CONFIG) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def ask(client: httpx.Client, rows: Sequence[Ticket]) -> list[Any]:
    """The answers, in calls of 50."""
    said = []
    for at in range(0, len(rows), CALL):
        body = {"texts": [row["text"] for row in rows[at : at + CALL]]}
        said += client.post("/v1/predict", json=body).raise_for_status().json()["results"]
    return said


def given(answer: Any) -> list[str]:
    """The labels of an answer, sorted."""
    return sorted(one["label"] for one in answer["labels"])


def correct(client: httpx.Client, rows: Sequence[Ticket]) -> int:
    """Ask, and say of each answer that it is right, or what would have been right; how many were wrong."""
    wrong = 0
    for row, answer in zip(rows, ask(client, rows), strict=True):
        right = given(answer) == row["truth"]
        said: Ticket = {"rating": 1} if right else {"rating": -1, "correction": row["truth"]}
        client.post("/v1/feedback", json={"id": answer["id"], **said}).raise_for_status()
        wrong += not right
    return wrong


def f1_micro(rows: Sequence[Ticket], answers: Sequence[Any]) -> float:
    """Of the labels given, against the true ones."""
    pairs = [(set(row["truth"]), set(given(answer))) for row, answer in zip(rows, answers, strict=True)]
    both, all_ = sum(len(true & said) for true, said in pairs), sum(len(true) + len(said) for true, said in pairs)
    return 2 * both / all_


def linear(folder: Path) -> dict[str, float]:
    """Micro F1 of one-vs-rest on the test rows with thresholds chosen on validation, as the model's are."""
    from llmops.tasks.text_classification.baseline import read_rows
    from llmops.tasks.text_classification.several.baseline import fit
    from llmops.tasks.text_classification.several.encoder import all_labels, multi_hot
    from llmops.tasks.text_classification.several.metrics import figures
    from llmops.tasks.text_classification.several.thresholds import choose

    dataset = folder / "runs/tickets/latest/prepare/dataset"
    rows = {split: read_rows(dataset / f"{split}.jsonl") for split in ("train", "valid", "test")}
    labels = sorted(all_labels(rows["train"]))
    truth = {split: multi_hot([row["label"] for row in some], labels) for split, some in rows.items()}
    model = fit([row["text"] for row in rows["train"]], truth["train"])
    shares = {split: model.predict_proba([row["text"] for row in rows[split]]) for split in ("valid", "test")}
    cuts = choose("f1_micro", shares["valid"], truth["valid"].astype(bool))
    found = figures(truth["test"].astype(bool), shares["test"] >= cuts, shares["test"])
    return {"baseline_with_thresholds": found["f1_micro"], "baseline_average_precision": found["average_precision"]}


def numbers(folder: Path, stage: str) -> dict[str, Any]:
    """The figures of the latest run."""
    report = json.loads((folder / f"runs/tickets/latest/{stage}/report.json").read_text())
    found: dict[str, Any] = report["numbers"]
    return found


def write(path: Path, rows: Sequence[Ticket]) -> None:
    """Tickets as a CSV whose topics stand in one cell."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "topics", "writer"])
        writer.writerows([row["text"], "; ".join(row["topics"]), row["writer"]] for row in rows)


def turn(folder: Path, rows: int) -> dict[str, Any]:
    """Both turns of the loop; what was measured."""
    began = time.monotonic()
    write(folder / "tickets.csv", tickets(rows, 1, KNOWN))
    llmops(folder, "init", ".", "--data", "tickets.csv", "--project", "tickets")
    assert "labels: many" in (folder / CONFIG).read_text()
    llmops(folder, "run", CONFIG, *SPLIT)
    first = numbers(folder, "deploy")
    kept = ("rows", "f1_micro", "f1_micro_low", "f1_micro_high", "f1_macro", "subset_accuracy", "average_precision")
    found = {name: first[name] for name in (*kept, "baseline", "above_baseline", "parity", "size_mb", "latency_p95_ms")}
    found |= linear(folder)
    found |= {"train_rows": numbers(folder, "prepare")["train"], "train_s": numbers(folder, "train")["took_s"]}
    found["first_turn_s"] = time.monotonic() - began
    new = tickets(2 * NEW, 2, OWN[len(KNOWN) :])
    asked, later = new[:NEW], new[NEW:]
    with client_of(folder) as client:
        found["new_writers_f1_micro_before"] = f1_micro(later, ask(client, later))
        found["corrections"] = correct(client, asked)
    llmops(folder, "feedback", CONFIG, *SPLIT)
    began = time.monotonic()
    llmops(folder, "run", CONFIG, *SPLIT)
    second = numbers(folder, "deploy")
    found |= {"version": second["version"], "second_f1_micro": second["f1_micro"]}
    found |= {"champion_delta": second["champion_delta"], "second_turn_s": time.monotonic() - began}
    with client_of(folder) as client:
        found["new_writers_f1_micro_after"] = f1_micro(later, ask(client, later))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3200)
    parser.add_argument("--folder", type=Path, help="an empty folder that stays; default: a scratch one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = turn(folder, asked.rows)
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
