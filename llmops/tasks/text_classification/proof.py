"""Proves a bundle through the real server: every held-out text, beside its label and the trained model's answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.intervals import wilson
from llmops.core.protocols import Learner, Opened, Proof, Room, Server
from llmops.core.report import Number, Table
from llmops.tasks.asking import BATCH, Answers, ask
from llmops.tasks.text_classification.codec import TextCodec, TextSettings
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.metrics import confused_pairs
from llmops.tasks.text_classification.parity import Rows, abstained, as_sure, held_out, parity, rows_of
from llmops.tasks.text_classification.tradeoff import choices, picture

SHOWN_MISTAKES = 10


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
        answers = ask(server, [{TextCodec.one: text} for text in rows.texts], together, bar.update)
    logits = learner.predict(dataset, rows.split)
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    settings = TextSettings.model_validate(manifest["settings"])
    numbers = figures(rows, answers, logits, settings)
    said = as_sure(rows, answers)
    return Proof(
        headline=headline(numbers),
        numbers=numbers,
        tables=[mistakes(rows, served(answers)), choices(said, settings.threshold, f"the {rows.split} rows")],
        curves=picture(said, f"the {rows.split} rows"),
        warnings=warnings(numbers, manifest["metrics"].get("valid") or {}),
        lines=lines(rows, answers, logits),
        split=rows.split,
    )


def together(bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that asks several texts at once."""
    return {TextCodec.many: [body[TextCodec.one] for body in bodies]}


def score(section: TextClassificationSection, dataset: Path, split: str, opened: Opened) -> float:
    """The metric of an opened bundle on a split, computed by its own codec and runtime."""
    rows = rows_of(dataset, split)
    requests = [opened.codec.request(row) for row in rows.examples]
    order = sorted(range(len(requests)), key=lambda index: opened.codec.size(requests[index]))
    best = [""] * len(requests)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        batch = [requests[place] for place in places]
        answers = opened.codec.decode(opened.runtime.run(opened.codec.encode(batch)), batch)
        for place, answer in zip(places, answers, strict=True):
            best[place] = answer.best
    return rows.scores(best)[section.metric]


def served(answers: Answers) -> list[str]:
    """The label that the server found likeliest for each row."""
    return [response["best"] for response in answers.responses]


def figures(rows: Rows, answers: Answers, logits: np.ndarray[Any, Any], settings: TextSettings) -> dict[str, Number]:
    """Everything that gates and people ask for; `logits` float32 [rows, classes] are the trained model's."""
    inside = int((rows.truth >= 0).sum())
    numbers: dict[str, Number] = {"rows": len(rows.examples), "in_scope_rows": inside}
    scored = rows.scores(served(answers))
    numbers |= scored
    numbers["accuracy_trained"] = rows.scores([rows.labels[best] for best in logits.argmax(axis=1)])["accuracy"]
    numbers |= parity(rows, answers, logits, settings) | abstained(rows, answers) | answers.latency()
    numbers["detector"], numbers["threshold"] = settings.detector, settings.threshold
    numbers["accuracy_low"], numbers["accuracy_high"] = wilson(scored["accuracy"], inside)
    return numbers


def headline(numbers: Mapping[str, Any]) -> str:
    """One sentence without its end: the stage adds the size."""
    n = numbers
    return (
        f"Through the real server: accuracy {n['accuracy']:.3f} (95 % interval {n['accuracy_low']:.3f} to "
        f"{n['accuracy_high']:.3f}) on {n['in_scope_rows']} rows, "
        f"the trained model's label on {100 * n['parity']:.1f} %, {told_abstention(n)}"
        f"p95 {n['latency_p95_ms']:.1f} ms"
    )


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


def mistakes(rows: Rows, said: Sequence[str]) -> Table:
    """The commonest pairs of true and answered label."""
    known = [*rows.labels, "(a label of no row)"]
    return Table(
        "Commonest mistakes",
        ["true", "answered", "rows"],
        confused_pairs(rows.truth, rows.numbers(said), known, SHOWN_MISTAKES),
    )


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
