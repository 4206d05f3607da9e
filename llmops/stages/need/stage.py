"""The stage `need`: is there enough data, will the plan fit, how long will it take, what must hold and be beaten."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.core import gates
from llmops.core.artifact import write_json
from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Metric, Places, Rows, Task
from llmops.core.protocols.task import CLASSED
from llmops.core.report import Number, Report, Table
from llmops.core.section import Section
from llmops.records.readers import source_path
from llmops.records.unlabelled import unlabelled_files, unlabelled_texts
from llmops.stages.need import classes, discrimination, estimate, numeric, texts
from llmops.stages.need.config import NeedSection
from llmops.stages.need.gatecheck import gate_mistakes, never_measured, refuse_gates_of_two
from llmops.stages.need.sample import Sample, dataset_rows, step_of, take_sample
from llmops.stages.need.told import Told


class NeedStage:
    """See the module."""

    name = "need"
    version = 5

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        prepare: Any = sections["prepare"]
        sources = [*prepare.sources, *filter(None, [step_of(prepare, "split").get("test_file")])]
        files = [path for source in sources if (path := source_path(source, places.root)) is not None]
        files += unlabelled_files(prepare, places)
        files += sections["task"].files() if hasattr(sections["task"], "files") else []
        names = ("need", "prepare", "task", "train", "tune")
        settings = {name: sections[name].plain() for name in names if name in sections}
        return Depends(settings=settings, files=files, libraries=("scikit-learn", "torch", "transformers"))

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        accept = sections["need"].plain()["accept"]
        metric, unmeasured = task.metric(sections["task"]).name, task.unmeasured(sections["task"])
        found = [
            mistake for gate, bounds in accept.items() if bounds for mistake in gate_mistakes(gate, bounds, metric)
        ]
        return found + [never_measured(gate, metric) for gate in accept if accept[gate] and gate in unmeasured]

    def run(self, job: Job) -> Report:
        need = job.section("need", NeedSection)
        sample = take_sample(job)
        if job.task.predicts(job.sections["task"]) in CLASSED:
            refuse_gates_of_two(need.plain()["accept"], job.task.of_two, len(sample.counts("train")))
        folder = encoded(job, sample.planned(), "sample", sample.planned_train_rows)
        with_unlabelled(job, sample, folder)
        # Before the baseline: what scikit-learn holds is not the training's memory.
        foreseen = estimate.foresee(job, folder, need.probe_s)
        disk = estimate.free_disk_mb(job.places.runs)
        length = "context" if hasattr(job.sections["task"], "context") else "max_tokens"
        estimate.refuse_what_cannot_fit(need, foreseen, disk, length)
        baseline = score_baseline(job, sample, folder)
        accept = need.plain()["accept"]
        rounded = {name: round(value, 3) for name, value in foreseen.items()}
        write_json(job.room.out / "brief.json", {"accept": accept, "baseline": baseline, "estimate": rounded})
        return report(job, sample, baseline, foreseen)


def encoded(job: Job, splits: Mapping[str, Rows], name: str, planned: int) -> Path:
    """Rows as a throwaway data set, as prepare would write it; dataset.json tells how many rows training has in all."""
    folder = job.room.work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = dataset_rows(splits)
    for split, kept in rows.items():
        kept.write(folder, split)
    job.task.encoder(job.sections["task"], job.sections["train"]).prepare(rows, folder)
    counts = {split: len(kept) for split, kept in rows.items()}
    write_json(folder / "dataset.json", {"counts": {**counts, "train": planned or counts["train"]}})
    return folder


def with_unlabelled(job: Job, sample: Sample, folder: Path) -> None:
    """Add the texts without labels to the data set in `folder`: reading them is a part of the training."""
    found = unlabelled_texts(job, job.sections["prepare"], sample.splits)
    if found is not None and len(found.rows):
        encoder: Any = job.task.encoder(job.sections["task"], job.sections["train"])
        encoder.unlabelled(found.rows, folder)


def score_baseline(job: Job, sample: Sample, folder: Path) -> dict[str, Any]:
    """The simple baseline's metric on the encoded sample in `folder`; where a class is predicted, also on validation
    when it may learn from only half of the rows."""
    section: Any = job.sections["task"]
    job.room.say("measuring the simple baseline, which any model must beat")
    found = {"metric": job.task.metric(section).name, **job.task.baseline(section, folder), "valid_half": None}
    if job.task.predicts(section) not in CLASSED:
        return found
    half = encoded(job, {**sample.halved(), "test": sample.splits["test"].take([])}, "half", 0)
    return {**found, "valid_half": job.task.baseline(section, half)["valid"]}


def report(job: Job, sample: Sample, baseline: Mapping[str, Any], foreseen: estimate.Estimate) -> Report:
    """What was found, for people and scripts."""
    accept = job.section("need", NeedSection).plain()["accept"]
    metric, predicts = job.task.metric(job.sections["task"]), job.task.predicts(job.sections["task"])
    must_hold = Table("What must hold before it may go live", ["gate"], [[line] for line in gates.words(accept)])
    positive: str | None = getattr(job.sections["task"], "positive", None)
    told = looked_at(accept, sample, baseline, metric, predicts, positive)
    numbers: dict[str, Number] = {
        **told.numbers,
        "baseline_valid": baseline["valid"],
        **({"baseline_valid_half": baseline["valid_half"]} if predicts in CLASSED else {}),
        "baseline_test": baseline["test"],
        **{name: round(value, 3) for name, value in foreseen.items()},
    }
    return Report(
        headline=headline(numbers, metric, predicts),
        numbers=numbers,
        tables=[must_hold, *told.tables],
        warnings=told.warnings,
    )


def looked_at(
    accept: Mapping[str, Any],
    sample: Sample,
    baseline: Mapping[str, Any],
    metric: Metric,
    predicts: str,
    positive: str | None,
) -> Told:
    """What the rows can teach and show, by what is predicted; `positive` is the class that the config calls so."""
    if metric.name in discrimination.RANKING and predicts == "class":
        return discrimination.look(accept, sample, baseline, positive)
    if predicts in CLASSED:
        return classes.look(accept, sample, baseline, positive, several=predicts == "classes")
    if predicts == "number":
        return numeric.look(accept, sample, baseline, metric)
    return texts.look(accept, sample, baseline, metric)


def headline(numbers: Mapping[str, Number], metric: Metric, predicts: str) -> str:
    """One sentence."""
    seconds = f"about {numbers['train_s']:,.0f} s of training" + (
        f" and {numbers['tune_s']:,.0f} s of tuning" if numbers["tune_s"] else ""
    )
    beat = ""
    if numbers["baseline_valid"] is not None:
        which = "simple" if predicts == "nothing" else "linear"
        what = "" if metric.name == "accuracy" else f"{metric.name} "
        beat = f"; the {which} baseline to beat reaches {what}{numbers['baseline_valid']:.3f}"
        beat += "" if metric.higher else " (lower is better)"
    many = {
        "class": f"in {numbers.get('classes')} classes",
        "classes": f"with {numbers.get('classes')} labels",
        "number": f"with values from {numbers.get('target_low'):.4g} to {numbers.get('target_high'):.4g}"
        if predicts == "number"
        else "",
        "nothing": f"with {numbers.get('characters_train', 0):,} characters",
    }[predicts]
    return f"{numbers['rows_train']:,} training rows {many}, {seconds} and {numbers['peak_memory_mb']:,.0f} MB{beat}"
