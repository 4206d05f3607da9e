"""Proves a bundle through the real server: every held-out text, beside its label and the trained model's answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Learner, Opened, Proof, Room, Server
from llmops.core.report import Number
from llmops.tasks.asking import BATCH, Answers
from llmops.tasks.text_classification.asked import ask_all
from llmops.tasks.text_classification.calibration import softmax
from llmops.tasks.text_classification.codec import TextCodec, TextSettings
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.parity import Rows, abstained, as_sure, held_out, parity, rows_of
from llmops.tasks.text_classification.served import Served
from llmops.tasks.text_classification.tradeoff import choices, picture
from llmops.tasks.timing import by_size


def prove(
    section: TextClassificationSection, dataset: Path, bundle: Path, server: Server, learner: Learner, room: Room
) -> Proof:
    """Query the server with every held-out row, and compare its answers with the truth and the trained model's.

    Raises DataError when there is no row, or the server refuses one.
    """
    rows = held_out(dataset)
    if not rows.examples:
        raise DataError("there is no test row and no validation row", str(dataset), "run prepare again")
    with room.progress("asking the server", len(rows.examples)) as bar:
        answers, probabilities = ask_all(server, rows, bar.update)
    logits = learner.predict(dataset, rows.split)
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    settings = TextSettings.model_validate(manifest["settings"])
    served = Served.of(rows, [response["best"] for response in answers.responses], probabilities)
    told = served.numbers(section.metric)
    if told[section.metric] is None:
        raise DataError(
            f"{section.metric} says nothing of the {rows.split} rows: all of them are of one class", str(dataset),
            "give more rows, a larger `split.test` or a test file with both classes; or take another `task.metric`",
        )  # fmt: skip
    numbers = figures(rows, told, answers, logits, settings)
    said = as_sure(rows, answers)
    return Proof(
        headline=headline(numbers, section.metric),
        numbers=numbers,
        tables=[*served.tables(), choices(said, settings.threshold, f"the {rows.split} rows")],
        curves=[*served.curves(), *picture(said, f"the {rows.split} rows")],
        grids=served.grids(),
        warnings=warnings(numbers, manifest["metrics"].get("valid") or {}),
        lines=lines(rows, answers, logits),
        split=rows.split,
    )


def score(section: TextClassificationSection, dataset: Path, split: str, opened: Opened) -> float | None:
    """The metric of an opened bundle on a split, by its own codec, runtime and temperature; None where the bundle gives
    several labels. What it does not know of these rows' labels has the probability 0."""
    if not isinstance(opened.codec, TextCodec):
        return None
    codec, rows = opened.codec, rows_of(dataset, split)
    requests = [codec.request(row) for row in rows.examples]
    said = np.zeros((len(requests), len(codec.labels)))
    for places in by_size(opened, requests, BATCH):
        logits = opened.runtime.run(codec.encode([requests[place] for place in places]))[0]
        said[places] = softmax(logits, codec.temperature)
    best = [codec.labels[number] for number in said.argmax(axis=1)]
    known = {label: number for number, label in enumerate(codec.labels)}
    probabilities = np.zeros((len(requests), len(rows.labels)))
    for number, label in enumerate(rows.labels):
        if label in known:
            probabilities[:, number] = said[:, known[label]]
    return Served.of(rows, best, probabilities).value(section.metric)


def figures(
    rows: Rows, quality: Mapping[str, Number], answers: Answers, logits: np.ndarray[Any, Any], settings: TextSettings
) -> dict[str, Number]:
    """Everything that gates and people ask for: `quality`, as `Served` tells it, and the rest; `logits` float32 [rows,
    classes] are the trained model's."""
    numbers: dict[str, Number] = {"rows": len(rows.examples), "in_scope_rows": int((rows.truth >= 0).sum()), **quality}
    numbers["accuracy_trained"] = rows.scores([rows.labels[best] for best in logits.argmax(axis=1)])["accuracy"]
    numbers |= parity(rows, answers, logits, settings) | abstained(rows, answers) | answers.latency()
    numbers["detector"], numbers["threshold"] = settings.detector, settings.threshold
    return numbers


def headline(numbers: Mapping[str, Any], metric: str) -> str:
    """One sentence without its end: the stage adds the size."""
    n = numbers
    first = "" if metric == "accuracy" else f"{told_figure(n, metric)}, "
    return (
        f"Through the real server: {first}{told_figure(n, 'accuracy')} on {n['in_scope_rows']} rows, "
        f"the trained model's label on {100 * n['parity']:.1f} %, {told_abstention(n)}"
        f"p95 {n['latency_p95_ms']:.1f} ms"
    )


def told_figure(numbers: Mapping[str, Any], name: str) -> str:
    """A figure with its interval, where it has one."""
    low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
    spread = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    return f"{name} {numbers[name]:.3f}{spread}"


def told_abstention(numbers: Mapping[str, Any]) -> str:
    """What abstaining does, in words that need no explanation; empty where no row tells."""
    if numbers["coverage"] is None:
        return ""
    caught = numbers["outside_recall"]
    foreign = "" if caught is None else f" and on {100 * caught:.0f} % of those that no class fits"
    return f"kept its answer back (abstained) on {100 * (1 - numbers['coverage']):.1f} % of these rows{foreign}, "


def warnings(numbers: Mapping[str, Number], on_valid: Mapping[str, Any]) -> list[str]:
    """What deserves a person's eye; `on_valid` is what the threshold did on validation, where it was chosen."""
    said = [on_valid["abstain_note"]] if "abstain_note" in on_valid else []
    if numbers["outside_recall"] is None:
        said.append("no test row is out of scope, so nobody knows how many such texts the threshold catches")
    return said


def lines(rows: Rows, answers: Answers, logits: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Each row's answer beside its truth and the trained model's."""
    return [
        {
            "id": example["id"], "true": example["label"], "best": response["best"],
            "trained": rows.labels[int(logits[place].argmax())], "probability": response["probability"],
            "certainty": response["certainty"], "abstained": response["abstained"],
            "latency_ms": answers.latency_ms.get(place),
        }
        for place, (example, response) in enumerate(zip(rows.examples, answers.responses, strict=True))
    ]  # fmt: skip
