"""The stage `need`: is there enough data, will the plan fit, how long will it take, what must hold and be beaten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.core import gates
from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Metric, Places, Row, Task
from llmops.core.report import Number, Report, Table
from llmops.core.section import Section
from llmops.records.readers import source_path
from llmops.stages.need import adequacy, classes, estimate, texts
from llmops.stages.need.config import NeedSection
from llmops.stages.need.gatecheck import gate_mistakes
from llmops.stages.need.sample import Sample, dataset_rows, step_of, take_sample


class NeedStage:
    """See the module."""

    name = "need"
    version = 2

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        prepare: Any = sections["prepare"]
        sources = [*prepare.sources, *filter(None, [step_of(prepare, "split").get("test_file")])]
        files = [path for source in sources if (path := source_path(source, places.root)) is not None]
        files += sections["task"].files() if hasattr(sections["task"], "files") else []
        names = ("need", "prepare", "task", "train", "tune")
        settings = {name: sections[name].plain() for name in names if name in sections}
        return Depends(settings=settings, files=files, libraries=("scikit-learn", "torch", "transformers"))

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        accept = sections["need"].plain()["accept"]
        metric = task.metric(sections["task"]).name
        return [mistake for gate, bounds in accept.items() if bounds for mistake in gate_mistakes(gate, bounds, metric)]

    def run(self, job: Job) -> Report:
        need = job.section("need", NeedSection)
        sample = take_sample(job)
        source = sample.training_rows() if job.task.labelled else encoded(job, sample)
        # Before the baseline: what scikit-learn holds is not the training's memory.
        foreseen = estimate.foresee(job, source, need.probe_s)
        disk = estimate.free_disk_mb(job.places.runs)
        length = "context" if hasattr(job.sections["task"], "context") else "max_tokens"
        estimate.refuse_what_cannot_fit(need, foreseen, disk, length)
        baseline = score_baseline(job, sample, source)
        accept = need.plain()["accept"]
        rounded = {name: round(value, 3) for name, value in foreseen.items()}
        write_json(job.room.out / "brief.json", {"accept": accept, "baseline": baseline, "estimate": rounded})
        return report(need, sample, baseline, foreseen, job.task.metric(job.sections["task"]), job.task.labelled)


def encoded(job: Job, sample: Sample) -> Path:
    """The sample as a throwaway data set, as prepare would write it. Where rows have no labels, the encoder learns more
    from them than a learner could from a list (documents that go on, pairs, a vocabulary), so the probe and the
    baseline read its folder."""
    rows = dataset_rows(sample.splits)
    folder = _write(rows, job.room.work / "sample")
    job.task.encoder(job.sections["task"], job.sections["train"]).prepare(rows, folder)
    return folder


def score_baseline(job: Job, sample: Sample, source: estimate.Source) -> dict[str, Any]:
    """The simple baseline's metric on these splits; with labels, also on validation when it may learn from only half of
    the rows. `source` is the encoded sample, if it is a folder."""
    section: Any = job.sections["task"]
    metric = job.task.metric(section).name
    if isinstance(source, Path):
        job.room.say("measuring the simple baseline, which any model must beat")
        return {"metric": metric, **job.task.baseline(section, source), "valid_half": None}
    rows = {
        split: [{"text": row["text"], "label": row["label"]} for row in found] for split, found in sample.splits.items()
    }
    job.room.say("linear baseline: TF-IDF and logistic regression")
    whole = job.task.baseline(section, _write(rows, job.room.work / "whole"))
    half = job.task.baseline(section, _write({**rows, "train": rows["train"][::2], "test": []}, job.room.work / "half"))
    return {"metric": metric, "valid": whole["valid"], "test": whole["test"], "valid_half": half["valid"]}


def _write(splits: Mapping[str, list[Row]], folder: Path) -> Path:
    for name, rows in splits.items():
        write_whole(
            folder / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        )
    return folder


def report(
    need: NeedSection,
    sample: Sample,
    baseline: Mapping[str, Any],
    foreseen: estimate.Estimate,
    metric: Metric,
    labelled: bool,
) -> Report:
    """What was found, for people and scripts."""
    accept = need.plain()["accept"]
    target = classes.target_of(accept, baseline) if labelled else 0.0
    wanted = adequacy.rows_wanted(target)
    numbers: dict[str, Number] = {
        **(classes.numbers(sample, wanted) if labelled else texts.numbers(sample)),
        "baseline_valid": baseline["valid"],
        **({"baseline_valid_half": baseline["valid_half"]} if labelled else {}),
        "baseline_test": baseline["test"],
        **{name: round(value, 3) for name, value in foreseen.items()},
    }
    must_hold = Table("What must hold before it may go live", ["gate"], [[line] for line in gates.words(accept)])
    if labelled:
        tables = [classes.class_table(sample, wanted), classes.test_table(target, sample.in_scope("test"))]
        warnings = classes.warnings(accept, sample, baseline, target)
    else:
        tables, warnings = [texts.size_table(sample)], texts.warnings(accept, sample, baseline, metric)
    return Report(
        headline=headline(numbers, metric, labelled), numbers=numbers, tables=[must_hold, *tables], warnings=warnings
    )


def headline(numbers: Mapping[str, Number], metric: Metric, labelled: bool) -> str:
    """One sentence."""
    seconds = f"about {numbers['train_s']:,.0f} s of training" + (
        f" and {numbers['tune_s']:,.0f} s of tuning" if numbers["tune_s"] else ""
    )
    beat = ""
    if numbers["baseline_valid"] is not None:
        which, what = ("linear", "") if labelled else ("simple", f"{metric.name} ")
        beat = f"; the {which} baseline to beat reaches {what}{numbers['baseline_valid']:.3f}"
        beat += "" if metric.higher else " (lower is better)"
    many = f"in {numbers['classes']} classes" if labelled else f"with {numbers['characters_train']:,} characters"
    return f"{numbers['rows_train']:,} training rows {many}, {seconds} and {numbers['peak_memory_mb']:,.0f} MB{beat}"
