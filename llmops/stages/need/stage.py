"""The stage `need`: is there enough data, will the plan fit, how long will it take, what must hold and be beaten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.core import gates
from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Places, Row, Task
from llmops.core.report import Number, Report, Table
from llmops.core.section import Section
from llmops.records.readers import source_path
from llmops.stages.need import adequacy, estimate
from llmops.stages.need.config import NeedSection
from llmops.stages.need.sample import Sample, dataset_rows, step_of, take_sample

SHARES = ("accuracy", "f1_macro", "balanced_accuracy", "parity")
"""Gates whose figure lies between 0 and 1."""
DIFFERENCES = ("above_baseline",)
"""Gates whose figure lies between -1 and 1."""


class NeedStage:
    """See the module."""

    name = "need"
    version = 1

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        prepare: Any = sections["prepare"]
        sources = [*prepare.sources, *filter(None, [step_of(prepare, "split").get("test_file")])]
        files = [path for source in sources if (path := source_path(source, places.root)) is not None]
        names = ("need", "prepare", "task", "train", "tune")
        settings = {name: sections[name].plain() for name in names if name in sections}
        return Depends(settings=settings, files=files, libraries=("scikit-learn", "torch", "transformers"))

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        accept = sections["need"].plain()["accept"]
        return [mistake for gate, bounds in accept.items() if bounds for mistake in gate_mistakes(gate, bounds)]

    def run(self, job: Job) -> Report:
        need = job.section("need", NeedSection)
        sample = take_sample(job)
        # Before the baseline: what scikit-learn holds is not the training's memory.
        foreseen = estimate.foresee(job, sample, need.probe_s)
        estimate.refuse_what_cannot_fit(
            need, foreseen, estimate.machine_memory_mb(), estimate.free_disk_mb(job.places.runs)
        )
        baseline = score_baseline(job, sample)
        accept = need.plain()["accept"]
        rounded = {name: round(value, 3) for name, value in foreseen.items()}
        write_json(job.room.out / "brief.json", {"accept": accept, "baseline": baseline, "estimate": rounded})
        return report(need, sample, baseline, foreseen)


def gate_mistakes(gate: str, bounds: Mapping[str, float | None]) -> list[Mistake]:
    """Bounds that no figure can meet, or that every figure meets."""
    found = []
    low, high = (0.0, 1.0) if gate in SHARES else (-1.0, 1.0) if gate in DIFFERENCES else (0.0, float("inf"))
    if gate == "champion":
        high = 1.0
    for key, bound in bounds.items():
        if bound is not None and not low <= bound <= high:
            inside = f"between {low:g} and {high:g}" if high < float("inf") else "0 or more"
            do = "write a share, such as 0.92 for 92 %" if gate in SHARES else f"write a number {inside}"
            found.append(
                Mistake(f"{gate} is always {inside}; {key} {bound:g} is not.", f"need.accept.{gate}.{key}", do=do)
            )
    least, most = bounds.get("at_least"), bounds.get("at_most")
    if least is not None and most is not None and least > most:
        what = f"no {gate} is at least {least:g} and at most {most:g}."
        found.append(Mistake(what, f"need.accept.{gate}", do="exchange the two bounds, or leave one out"))
    return found


def score_baseline(job: Job, sample: Sample) -> dict[str, Any]:
    """The linear baseline's metric on these splits, and on validation when it may learn from only half of the rows."""
    section: Any = job.sections["task"]
    rows = dataset_rows(sample.splits)
    job.room.say("linear baseline: TF-IDF and logistic regression")
    whole = job.task.baseline(section, _write(rows, job.room.work / "whole"))
    half = job.task.baseline(section, _write({**rows, "train": rows["train"][::2], "test": []}, job.room.work / "half"))
    return {"metric": section.metric, "valid": whole["valid"], "test": whole["test"], "valid_half": half["valid"]}


def _write(splits: Mapping[str, list[Row]], folder: Path) -> Path:
    for name, rows in splits.items():
        write_whole(folder / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def report(need: NeedSection, sample: Sample, baseline: Mapping[str, Any], foreseen: estimate.Estimate) -> Report:
    """What was found, for people and scripts."""
    accept = need.plain()["accept"]
    train = sample.counts("train")
    target = target_of(accept, baseline)
    wanted = adequacy.rows_wanted(target)
    numbers: dict[str, Number] = {
        "classes": len(train),
        "rows_train": sample.in_scope("train"),
        "rows_valid": sample.in_scope("valid"),
        "rows_test": sample.in_scope("test"),
        "rows_outside": sum(row["label"] == sample.outside for rows in sample.splits.values() for row in rows),
        "rows_wanted_per_class": wanted,
        "rows_smallest_class": min(train.values(), default=0),
        "baseline_valid": baseline["valid"],
        "baseline_valid_half": baseline["valid_half"],
        "baseline_test": baseline["test"],
        **{name: round(value, 3) for name, value in foreseen.items()},
    }
    return Report(
        headline=headline(need, numbers),
        numbers=numbers,
        tables=[
            Table("What must hold before it may go live", ["gate"], [[line] for line in gates.words(accept)]),
            class_table(sample, wanted),
            test_table(target, sample.in_scope("test")),
        ],
        warnings=warnings(accept, sample, baseline, target),
    )


def headline(need: NeedSection, numbers: Mapping[str, Number]) -> str:
    """One sentence."""
    seconds = f"about {numbers['train_s']:,.0f} s of training" + (
        f" and {numbers['tune_s']:,.0f} s of tuning" if numbers["tune_s"] else ""
    )
    beat = (
        ""
        if numbers["baseline_valid"] is None
        else f"; the linear baseline to beat reaches {numbers['baseline_valid']:.3f}"
    )
    rows = f"{numbers['rows_train']:,} training rows in {numbers['classes']} classes"
    return f"{rows}, {seconds} and {numbers['peak_memory_mb']:,.0f} MB{beat}"


def target_of(accept: Mapping[str, Any], baseline: Mapping[str, Any]) -> float:
    """The accuracy that rows are counted for: what the strictest gate asks for, else what the baseline reaches."""
    asked = [accept[gate]["at_least"] for gate in ("accuracy", "f1_macro", "balanced_accuracy") if accept.get(gate)]
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


def test_table(target: float, rows: int) -> Table:
    """How exactly the test set knows an accuracy, and the rows for other margins."""
    lines: list[list[Number]] = [[f"{rows:,} (what there is)", round(adequacy.half_width(target, rows), 4)]]
    lines += [[f"{adequacy.rows_for_margin(target, margin):,}", margin] for margin in (0.05, 0.03, 0.02, 0.01)]
    return Table(
        f"Test rows, and how exactly they know an accuracy near {target:.3g} (Wilson 95 %)", ["test rows", "+-"], lines
    )


def warnings(accept: Mapping[str, Any], sample: Sample, baseline: Mapping[str, Any], target: float) -> list[str]:
    """What deserves a person's eye."""
    test = sample.in_scope("test")
    said: list[str | None] = list(
        adequacy.class_warnings(sample.counts("train"), sample.counts("test"), adequacy.rows_wanted(target))
    )
    for gate in ("accuracy", "f1_macro", "balanced_accuracy"):
        bound = (accept.get(gate) or {}).get("at_least")
        if bound is not None:
            said.append(adequacy.gate_warning(gate, bound, test))
    if accept.get("champion"):
        said.append(adequacy.margin_warning(accept["champion"]["no_worse_by"], target, test))
    whole, half = baseline["valid"], baseline["valid_half"]
    if whole is not None and half is not None and whole - half > 0.02:
        said.append(
            f"more rows would help: on validation the baseline reaches {half:.3f} with half of them,"
            f" {whole:.3f} with all"
        )
    return [line for line in said if line]
