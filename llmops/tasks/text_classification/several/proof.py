"""Proves a bundle that gives several labels through the real server: every held-out text, beside its labels and the
trained model's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Learner, Proof, Room, Server
from llmops.core.report import Curve, Number
from llmops.tasks.asking import Answers, ask
from llmops.tasks.ranking import curves
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.proof import told_figure
from llmops.tasks.text_classification.several import tables
from llmops.tasks.text_classification.several.assess import agreement
from llmops.tasks.text_classification.several.codec import MOST_OTHERS, LabelsCodec, LabelsResponse, LabelsSettings
from llmops.tasks.text_classification.several.intervals import intervals
from llmops.tasks.text_classification.several.metrics import figures as metrics_of
from llmops.tasks.text_classification.several.rows import Given, Rows, given_to, held_out, widened, worth

FEW = 10
"""A label of fewer held-out rows is hardly measured."""


def prove(
    section: TextClassificationSection, dataset: Path, bundle: Path, server: Server, learner: Learner, room: Room
) -> Proof:
    """Query the server with every held-out row, and compare its answers with the truth and the trained model's.

    Raises DataError when there is no row, or the server refuses one.
    """
    rows = held_out(dataset)
    if not rows.examples:
        raise DataError("there is no test row and no validation row", str(dataset), "run prepare again")
    bodies = [{"text": row["text"], "others": MOST_OTHERS} for row in rows.examples]
    with room.progress("asking the server", len(bodies)) as bar:
        answers = ask(server, bodies, together, bar.update)
    settings = LabelsSettings.model_validate(json.loads((bundle / "bundle.json").read_bytes())["settings"])
    said = served(rows, answers)
    trained = Given(rows.labels, *by_trained(settings, learner.predict(dataset, rows.split)))
    numbers = {**figures(rows, said, trained), **answers.latency()}
    truth = widened(rows, said.labels)
    return Proof(
        headline=headline(section.metric, numbers),
        numbers=numbers,
        tables=[
            tables.by_label(rows.labels, rows.truth, said.given, said.probabilities, settings.cuts().tolist()),
            tables.mistakes(said.labels, truth, said.given),
            tables.together(rows.labels, rows.truth, said.given),
            tables.by_number(truth, said.given),
        ],
        curves=trade(truth, said),
        warnings=warnings(rows, said),
        lines=lines(rows, said, trained, answers),
        split=rows.split,
    )


def together(bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that asks several texts at once."""
    return {LabelsCodec.many: [body["text"] for body in bodies], "others": MOST_OTHERS}


def served(rows: Rows, answers: Answers) -> Given:
    """What the server gave."""
    said = [
        LabelsResponse.model_validate({name: one[name] for name in ("labels", "others")}) for one in answers.responses
    ]
    return given_to(rows, [(one.labels, one.others) for one in said])


def by_trained(settings: LabelsSettings, logits: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """What the trained model's logits [rows, labels] give by the bundle's calibration: labels, probabilities."""
    chances = settings.chances(logits)
    return chances >= settings.cuts(), chances


def figures(rows: Rows, said: Given, trained: Given) -> dict[str, Number]:
    """Everything that gates and people ask for.

    parity is how far the server and the trained model give the same labels (see `assess.agreement`), same_labels the
    share of rows to which they give exactly the same.
    """
    truth = widened(rows, said.labels)
    numbers: dict[str, Number] = {"rows": len(rows.examples), "labels": len(rows.labels), **worth(rows, said)}
    for name, (low, high) in intervals(truth, said.given, said.probabilities).items():
        numbers[f"{name}_low"], numbers[f"{name}_high"] = low, high
    numbers["labels_a_row"], numbers["given_a_row"] = float(truth.sum(1).mean()), float(said.given.sum(1).mean())
    numbers["f1_micro_trained"] = metrics_of(rows.truth, trained.given, trained.probabilities)["f1_micro"]
    numbers["parity"] = agreement(said.given, trained.given)
    numbers["same_labels"] = float(np.equal(said.given, trained.given).all(1).mean())
    numbers["probability_difference"] = float(np.abs(said.probabilities - trained.probabilities).max())
    return numbers


def trade(truth: np.ndarray[Any, Any], said: Given) -> list[Curve]:
    """Precision against recall, of all labels together, under every threshold that they could share."""
    drawn = curves(truth.ravel(), said.probabilities.ravel())[1:]
    title, x, y = "Precision and recall of all labels together", "labels found", "labels given that are right"
    return [replace(curve, title=title, x=x, y=y) for curve in drawn]


def headline(metric: str, numbers: Mapping[str, Any]) -> str:
    """One sentence without its end: the stage adds the size."""
    return (
        f"Through the real server: {told_figure(numbers, metric)} on {numbers['rows']} rows of "
        f"{numbers['labels']} labels, exactly the right ones on {100 * numbers['subset_accuracy']:.1f} %, "
        f"the trained model's on {100 * numbers['same_labels']:.1f} %, "
        f"p95 {numbers['latency_p95_ms']:.1f} ms"
    )


def warnings(rows: Rows, said: Given) -> list[str]:
    """What deserves a person's eye."""
    told = []
    support = rows.truth.sum(0)
    if few := [label for label, count in zip(rows.labels, support, strict=True) if count < FEW]:
        told.append(f"fewer than {FEW} {rows.split} rows have {_listed(few)}: hardly measured")
    never = (said.given.sum(0)[: len(rows.labels)] == 0) & (support > 0)
    if silent := [label for label, at in zip(rows.labels, never, strict=True) if at]:
        told.append(f"never given to a {rows.split} row, though some have it: {_listed(silent)}")
    return told


def _listed(labels: Sequence[str], most: int = 5) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def lines(rows: Rows, said: Given, trained: Given, answers: Answers) -> list[dict[str, Any]]:
    """Each row's labels beside its true ones and the trained model's."""
    return [
        {
            "id": example["id"], "true": example["label"], "given": said.names(place),
            "trained": trained.names(place), "latency_ms": answers.latency_ms.get(place),
        }
        for place, example in enumerate(rows.examples)
    ]  # fmt: skip
