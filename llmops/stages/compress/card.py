"""MODEL_CARD.md: what the bundle is for, what it was made from, how good it is, its limits (Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.report import cell, markdown_table

MANY_LABELS = 100


def model_card(project: str, goal: str, fields: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The card as Markdown. `fields` are those of bundle.json, `about` is the data set's dataset.json."""
    lineage, metrics, settings = fields["lineage"], fields["metrics"], fields["settings"]
    counts = ", ".join(f"{count:,} {split}" for split, count in about["counts"].items())
    cut = f" Texts are cut at {settings['max_tokens']} tokens." if "max_tokens" in settings else ""
    parts = [
        f"# {project}: {fields['task']}",
        f"## What it is for\n\n{goal or 'The config names no goal (`need.goal`).'}\n\n"
        "It was made and measured for this only.",
        f"## What it answers\n\n{_answers(settings)}",
        f"## Data\n\n{counts} rows; {about.get('harvest_rows', 0):,} of them from users' corrections.{cut}"
        f" Cleaning: {_settings(fields['cleaning'])}.",
        "## How good it is\n\nMeasured on the machine that made it, on the validation rows, through the runtime that"
        " serves.\n\n" + markdown_table(["figure", "value"], [[name, value] for name, value in _flat(metrics).items()]),
        f"## Limits\n\n{_limits(settings)}",
        "## Where it comes from\n\n"
        + markdown_table(["what", "value"], [[name, cell(value)] for name, value in _flat(lineage).items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _answers(settings: Mapping[str, Any]) -> str:
    """What comes out of it, by what its settings hold."""
    said = []
    if labels := settings.get("labels"):
        more = f" and {len(labels) - MANY_LABELS} more" if len(labels) > MANY_LABELS else ""
        said.append(f"One of {len(labels)} labels: {', '.join(labels[:MANY_LABELS])}{more}.")
    if context := settings.get("context"):
        said.append(f"Text, token by token. A prompt and its answer have at most {context:,} tokens together.")
    if "threshold" in settings:
        said.append(
            f"It abstains when the probability of its best answer is below {settings['threshold']:.3f}, fitted on the"
            " validation rows."
        )
    if "temperature" in settings:
        said.append(
            f"Probabilities are calibrated with a temperature of {settings['temperature']:.3f} (Guo et al. 2017),"
            " fitted on the same rows."
        )
    return " ".join(said) or "Requests of the shape that `GET /v1/model` tells."


def _limits(settings: Mapping[str, Any]) -> str:
    said = [
        "- The figures hold for texts like those in the data set; `llmops feedback` watches for drift away from it.",
    ]
    if "labels" in settings:
        said += [
            "- A label that is not listed above cannot be answered; of such texts it abstains, and not from all of"
            " them.",
            "- An int8 model scales activations over a whole batch, so a text's probability, and now and then"
            " its label, may differ with the company it is computed in.",
        ]
    if "context" in settings:
        said.append("- What it writes may be wrong, and may sound sure all the same. Don't act on it unread.")
    said.append("- Nobody has checked it for unfairness between groups of people. Don't let it decide about people.")
    return "\n".join(said)


def _settings(plain: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in plain.items())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures as one level: {"valid": {"accuracy": 1}} becomes {"valid accuracy": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name} "))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
