"""What need has to say where a class is predicted, or several: rows per class against the target, what the test set can
show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.report import Number, Table
from llmops.stages.need import adequacy
from llmops.stages.need.sample import SPLITS, Sample
from llmops.stages.need.told import Told
from llmops.tasks.event import event_of

QUALITY = ("accuracy", "f1_micro", "f1_macro", "balanced_accuracy", "subset_accuracy")
"""Gates by which the rows that are wanted are counted."""


def look(
    accept: Mapping[str, Any],
    sample: Sample,
    baseline: Mapping[str, Any],
    positive: str | None,
    several: bool = False,
) -> Told:
    """All of it; `positive` is the class that the config calls so; with `several` a row has any number of labels, and
    counts for each."""
    target = target_of(accept, baseline)
    wanted = adequacy.rows_wanted(target)
    what = "a share of right ones" if several else "an accuracy"
    tables = [class_table(sample, wanted), test_table(target, sample.in_scope("test"), what)]
    told = numbers(sample, wanted) | (labels_of_rows(sample) if several else {})
    events = events_tested(sample, positive)
    compared = events if events is not None and baseline["metric"] == "recall" else sample.in_scope("test")
    said = warnings(accept, sample, baseline, target, compared)
    return Told(told, tables, [*said, *adequacy.recall_warnings(accept, events)])


def numbers(sample: Sample, wanted: int) -> dict[str, Number]:
    """Rows of the splits and classes."""
    train = sample.counts("train")
    return {
        "classes": len(train),
        "rows_train": sample.in_scope("train"),
        "rows_valid": sample.in_scope("valid"),
        "rows_test": sample.in_scope("test"),
        "rows_outside": sum(sample.is_outside(split) for split in SPLITS),
        "rows_wanted_per_class": wanted,
        "rows_smallest_class": min(train.values(), default=0),
    }


def labels_of_rows(sample: Sample) -> dict[str, Number]:
    """How many labels a training row has, and rows without one."""
    sizes = [len(label) for label in sample.splits["train"].values("label")]
    return {"labels_per_row": round(sum(sizes) / max(1, len(sizes)), 3), "rows_without_label": sizes.count(0)}


def target_of(accept: Mapping[str, Any], baseline: Mapping[str, Any]) -> float:
    """The accuracy (or F1) that rows are counted for: what the strictest gate asks for, else what the baseline
    reaches."""
    asked = [accept[gate]["at_least"] for gate in QUALITY if accept.get(gate)]
    return max((float(value) for value in asked if value is not None), default=float(baseline["valid"] or 0.5))


def class_table(sample: Sample, wanted: int) -> Table:
    """Rows of each class, the poorest first."""
    counts = {split: sample.counts(split) for split in ("train", "valid", "test")}
    order = sorted(counts["train"], key=lambda label: (counts["train"][label], label))
    rows: list[list[Number]] = [
        [
            label,
            *(counts[split][label] for split in counts),
            "yes" if counts["train"][label] >= wanted else f"{wanted} wanted",
        ]
        for label in order
    ]
    return Table(
        "Rows per class (rule of thumb from BANKING77, Casanueva et al. 2020)", ["class", *counts, "enough"], rows
    )


def test_table(target: float, rows: int, what: str) -> Table:
    """How exactly the test set knows a share of its rows, and the rows for other margins."""
    lines: list[list[Number]] = [[f"{rows:,} (what there is)", round(adequacy.half_width(target, rows), 4)]]
    lines += [[f"{adequacy.rows_for_margin(target, margin):,}", margin] for margin in (0.05, 0.03, 0.02, 0.01)]
    return Table(
        f"Test rows, and how exactly they know {what} near {target:.3g} (Wilson 95 %)", ["test rows", "+-"], lines
    )


def warnings(
    accept: Mapping[str, Any], sample: Sample, baseline: Mapping[str, Any], target: float, compared: int
) -> list[str]:
    """What deserves a person's eye; on `compared` test rows the metric compares models."""
    test = sample.in_scope("test")
    said: list[str | None] = list(
        adequacy.class_warnings(sample.counts("train"), sample.counts("test"), adequacy.rows_wanted(target))
    )
    for gate in QUALITY:
        bound = (accept.get(gate) or {}).get("at_least")
        if bound is not None:
            said.append(adequacy.gate_warning(gate, bound, test))
    if accept.get("champion"):
        said.append(adequacy.margin_warning(accept["champion"]["no_worse_by"], target, compared))
    whole, half = baseline["valid"], baseline["valid_half"]
    if whole is not None and half is not None and whole - half > 0.02:
        said.append(
            f"more rows would help: on validation the baseline reaches {half:.3f} with half of them,"
            f" {whole:.3f} with all"
        )
    return [line for line in said if line]


def events_tested(sample: Sample, positive: str | None) -> int | None:
    """Of two classes the test rows of the event."""
    counts = sample.counts("train")
    return sample.counts("test")[event_of(counts, positive)] if len(counts) == 2 else None
