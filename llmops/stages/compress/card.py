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
        how = "Any number" if settings.get("several") else "One"
        said.append(f"{how} of {len(labels)} labels: {', '.join(labels[:MANY_LABELS])}{more}.")
    if context := settings.get("context"):
        said.append(f"Text, token by token. A prompt and its answer have at most {context:,} tokens together.")
    if target := settings.get("target"):
        said.append(_of_table(settings, target))
    elif "threshold" in settings:
        said.append(_abstains(settings["threshold"], settings.get("detector", "probability")))
    if settings.get("several"):
        said.append(
            "A label is given from its own threshold on. Probabilities are calibrated by Platt scaling (Platt 1999);"
            " both were fitted on the same rows."
        )
    if "temperature" in settings:
        said.append(
            f"Probabilities are calibrated with a temperature of {settings['temperature']:.3f} (Guo et al. 2017),"
            " fitted on the same rows."
        )
    return " ".join(said) or "Requests of the shape that `GET /v1/model` tells."


def _abstains(threshold: float, detector: str) -> str:
    if detector == "probability" and threshold == 0:
        return "It never abstains."
    return (
        f"It abstains (keeps its answer back) when its certainty (measured as: {detector}) is below {threshold:.4g},"
        " chosen on the validation rows."
    )


def _of_table(settings: Mapping[str, Any], target: str) -> str:
    """What is said of a row, and by which columns."""
    columns = f"`{target}`, by {len(settings['known'])} columns: {', '.join(settings['known'])}."
    if settings.get("predict") == "number":
        return f"The number {columns} Its interval is to hold {settings['coverage']:.0%} of the true values."
    rule = ""
    if settings.get("threshold") is not None:
        rule = f" It says {settings['labels'][1]} from a probability of {settings['threshold']:.3f} on."
    return f"The class {columns} Probabilities are calibrated on rows that the model did not learn from.{rule}"


def _limits(settings: Mapping[str, Any]) -> str:
    table = "target" in settings
    rows = "rows" if table else "texts"
    said = [
        f"- The figures hold for {rows} like those in the data set; `llmops feedback` watches for drift away from it.",
    ]
    if table:
        said.append("- Reasons say what moved the model's answer, not what would change the outcome.")
    elif "labels" in settings:
        unlisted = "get others, or none." if settings.get("several") else "it abstains from, and not from all of them."
        said += [
            f"- A label that is not listed above cannot be answered; texts with such a label {unlisted}",
            "- An int8 model scales activations over a whole batch, so a text's probability, and now and then"
            " its label, may differ with the company it is computed in.",
        ]
    if "context" in settings:
        said.append("- What it writes may be wrong, and may sound sure all the same. Don't act on it unread.")
    if table:
        said.append("- Figures by group stand in deploy's report where `need.slices` names columns; read them first.")
    else:
        unchecked = "Nobody has checked it for unfairness between groups of people."
        said.append(f"- {unchecked} Don't let it decide about people.")
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
