"""The stage `compress`: makes candidates, measures each here, and the best within the limits becomes the bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.bundle import format as bundle_format
from llmops.bundle.samples import write_samples
from llmops.bundle.startup import startup
from llmops.core.artifact import tree_digest, write_whole
from llmops.core.errors import DataError, GateRefused, Mistake
from llmops.core.machine import signature
from llmops.core.protocols import Depends, Job, Measured, Metric, Places, Task
from llmops.core.report import Curve, Number, Report, Table, markdown_table
from llmops.core.section import Section
from llmops.fields.rows import read_split
from llmops.stages.compress.candidates import FLOAT32, SMALLER, Spec, Workshop, asked, specs
from llmops.stages.compress.card import model_card
from llmops.stages.compress.choose import Entry, choose, judged_early, nearest, paired, reasons
from llmops.stages.compress.config import CompressSection
from llmops.tasks.timing import PAIRED, cost_ratio, split_answers

LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "tokenizers", "torch", "transformers")
SAMPLED = 64
"""Validation rows that parity samples are made of."""
VALID = "valid_"
"""Figures whose names begin so say how good a candidate is on validation; the others say what it costs."""


@dataclass
class Trial:
    """One candidate: its figures, unless it could not be made, and why it is refused, if it is."""

    spec: Spec
    entry: Entry | None = None
    refused: list[str] = field(default_factory=list)


class CompressStage:
    """See the module."""

    name = "compress"
    version = 7

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        need, section = sections["need"].plain(), _section(sections)
        candidates = [value if isinstance(value, str) else value.plain() for value in asked(section, task)]
        settings = {
            "compress": {**section.plain(), "candidates": candidates},
            "task": sections["task"].plain(),
            "goal": need["goal"],
            "gates": judged(need["accept"]),
        }
        return Depends(settings=settings, libraries=LIBRARIES)

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        section, metric = _section(sections), task.metric(sections["task"])
        asked_for = specs(section, task)
        found = []
        if metric.higher and section.max_quality_loss > 1:
            what = f"{metric.name} is a share, so it can get worse by at most 1; {section.max_quality_loss:g} is more."
            found.append(Mistake(what, "compress.max_quality_loss", do="write a share, such as 0.01"))
        for index, spec in enumerate(asked_for):
            where = f"compress.candidates.{index}"
            if spec.form not in task.forms:
                do = f"take one of: {', '.join(task.forms)}"
                found.append(Mistake(f"the task {task.name} has no form {spec.form}.", where, do=do))
            if spec.name in [other.name for other in asked_for[:index]]:
                found.append(Mistake(f"the candidate {spec.name} stands there twice.", where, do="leave one out"))
        return found

    def run(self, job: Job) -> Report:
        work = Bench(job)
        trials = work.trials()
        best = work.best(trials)
        fields = work.fields(best)
        bundle = job.room.out / "bundle"
        work.workshop.hand_over(best.spec, bundle)
        if best.spec.learns or best.spec.vocabulary:
            work.twin_beside(best.spec, bundle)
        work.sample(best.spec, bundle)
        goal = str(job.sections["need"].plain()["goal"])
        write_whole(bundle / bundle_format.CARD, model_card(job.project, goal, fields, work.about))
        bundle_format.write(bundle, fields)
        return report(work, trials, best, fields)


def judged(accept: Mapping[str, Any]) -> dict[str, Any]:
    """The gates that are judged here already."""
    return {name: bounds for name, bounds in accept.items() if judged_early(name)}


def _section(sections: Mapping[str, Section]) -> CompressSection:
    section = sections["compress"]
    assert isinstance(section, CompressSection)
    return section


class Bench:
    """Makes and measures the candidates of one job."""

    def __init__(self, job: Job) -> None:
        self.job, self.task, self.task_section = job, job.task, job.sections["task"]
        self.section = job.section("compress", CompressSection)
        self.metric = job.task.metric(self.task_section)
        self.accept: dict[str, Any] = job.sections["need"].plain()["accept"]
        self.dataset = job.inputs["dataset"]
        self.about: dict[str, Any] = json.loads((self.dataset / "dataset.json").read_bytes())
        self.workshop = Workshop(job)
        self.trained = self.workshop.learner.predict(self.dataset, "valid")
        self.entries: dict[Spec, Entry] = {}
        self.unseen: Any = getattr(self.workshop.learner, "unseen", None)
        """What a model answered to the validation rows before it learnt them too; None: the model never did."""
        self.trained_figures = self.quality(self.trained)
        self.trained_quality = self.trained_figures[self.metric.name]

    def quality(self, answers: Any) -> dict[str, float]:
        """The figures of some answers to the validation rows."""
        return self.task.trained_quality(self.task_section, self.dataset, "valid", answers)

    def judge(self, spec: Spec) -> float:
        """The trained model's metric on validation that a candidate is held against. A student does not learn these
        rows; neither had the model whose answers are `unseen`."""
        if not spec.learns or self.unseen is None:
            return self.trained_quality
        return self.quality(self.unseen)[self.metric.name]

    def trials(self) -> list[Trial]:
        """Every candidate, made, measured and judged; the plain float32 export always, for comparison. Where the config
        names none, and none of the usual ones is allowed, ever smaller ones until one is."""
        wanted = specs(self.section, self.task)
        trials = [self.attempt(spec) for spec in [FLOAT32, *(spec for spec in wanted if spec != FLOAT32)]]
        if FLOAT32 not in wanted:
            trials[0].refused.append("not asked for; made for comparison")
        if self.section.candidates is None and "int8" in self.task.forms:
            for spec in SMALLER:
                if any(not trial.refused for trial in trials):
                    break
                trials.append(self.attempt(spec))
        return trials

    def attempt(self, spec: Spec) -> Trial:
        """A candidate, measured and judged; or the reason why it cannot be made from this model."""
        try:
            entry = self.measure(spec)
        except DataError as error:
            if spec == FLOAT32:
                raise
            return Trial(spec, refused=[str(error)])
        self.entries[spec] = entry
        limit = self.section.max_quality_loss
        why = reasons(entry, self.entries[FLOAT32], self.judge(spec), self.metric, limit, self.accept)
        return Trial(spec, entry, why)

    def measure(self, spec: Spec) -> Entry:
        """Make one candidate and measure it."""
        folder = self.workshop.make(spec)
        self.job.room.say(f"measuring {spec.name}")
        opened = self.workshop.open(folder)
        found = self.task.measure(self.task_section, self.dataset, opened, self.twin(spec))
        found = replace(found, figures={**found.figures, **startup(folder)})
        return Entry(
            spec.name, bundle_format.size_mb(folder), found, self.slower(spec, opened), self.change(spec, found.answers)
        )

    def twin(self, spec: Spec) -> Any:
        """What a candidate shall say to the validation rows: its own self before it became an ONNX file of other
        numbers. A student is judged against its teacher by its quality."""
        if spec == spec.plain():
            return self.workshop.student(spec).predict(self.dataset, "valid") if spec.learns else self.trained
        if not spec.learns and not spec.vocabulary:
            return self.trained
        if spec.plain() in self.entries:
            return self.entries[spec.plain()].measured.answers
        return split_answers(self.workshop.open(self.workshop.make(spec.plain())), self.dataset, "valid")

    @cached_property
    def float32(self) -> Any:
        """The plain export, opened: what the others' time is held against."""
        return self.workshop.open(self.workshop.make(FLOAT32))

    def slower(self, spec: Spec, opened: Any) -> float:
        """How many times as long as float32 a candidate takes for one answer, in alternating turns."""
        if spec == FLOAT32 or self.task.runtime != "oneshot":
            return 1.0
        requests = [opened.codec.request(row) for row in islice(read_split(self.dataset, "valid"), PAIRED)]
        return cost_ratio(opened, self.float32, requests)

    def change(self, spec: Spec, answers: Any) -> tuple[float, float, float] | None:
        """How much righter a candidate's answers are than the trained model's."""
        against = self.trained if self.unseen is None or not spec.learns else self.unseen
        ours, theirs = (self.task.rowwise(self.task_section, self.dataset, "valid", one) for one in (answers, against))
        return None if ours is None or not len(ours) else paired(ours, theirs)

    def best(self, trials: list[Trial]) -> Trial:
        """The candidate that becomes the bundle. Raises GateRefused when none is allowed."""
        allowed = [trial.entry for trial in trials if trial.entry is not None and not trial.refused]
        if not allowed:
            told = table(trials)
            near = nearest([trial.entry for trial in trials if trial.entry is not None], judged(self.accept))
            raise GateRefused(
                f"no candidate is allowed to serve; {near}",
                "compress.candidates",
                "try other candidates, raise `compress.max_quality_loss`, or loosen `need.accept`",
                markdown_table(told.columns, told.rows),
            )
        name = choose(allowed, self.section.prefer, self.metric).name
        return next(trial for trial in trials if trial.spec.name == name)

    def sample(self, spec: Spec, bundle: Path) -> None:
        """Leave parity samples in a bundle that answers at once."""
        if self.task.runtime == "oneshot":
            opened = self.workshop.open(self.workshop.make(spec))
            requests = [opened.codec.request(row) for row in islice(read_split(self.dataset, "valid"), SAMPLED)]
            if requests:
                write_samples(bundle, opened, requests, self.job.seed)

    def twin_beside(self, spec: Spec, bundle: Path) -> None:
        """Leave the candidate's float32 self beside the bundle: deploy holds the server's answers against it."""
        folder = bundle.with_name(bundle_format.TWIN)
        self.workshop.hand_over(spec.plain(), folder)
        bundle_format.write(folder, self.workshop.fields(self.workshop.make(spec.plain())))

    def fields(self, best: Trial) -> dict[str, Any]:
        """All of bundle.json; what is calibrated is fitted on this very candidate's answers."""
        assert best.entry is not None
        found = best.entry.measured
        self.job.room.say("the baseline on the same rows")
        baseline = self.task.baseline(self.task_section, self.dataset)
        unseen = None if best.spec.learns else self.unseen
        honest = found if unseen is None else replace(found, answers=unseen)
        settings, does = self.task.calibrate(self.task_section, self.dataset, honest)
        metrics = {
            "valid": {**self.figures(found, unseen), **does},
            "trained_valid": {self.metric.name: self.trained_quality},
            "baseline": {"metric": self.metric.name, **baseline},
            "agreement": found.agreement,
            "size_mb": best.entry.size_mb,
            **costs(found.figures),
        }
        plain = self.workshop.fields(self.workshop.make(best.spec))
        plain["settings"] |= settings
        return {**plain, "metrics": metrics, "lineage": self.lineage(best.spec)}

    def figures(self, found: Measured, unseen: Any) -> dict[str, Number]:
        """The figures on validation rows, of the answers `unseen` where the candidate has learnt these rows."""
        if unseen is not None:
            return {**self.quality(unseen)}
        valid = {name.removeprefix(VALID): value for name, value in found.figures.items() if name.startswith(VALID)}
        return {self.metric.name: found.quality, **valid}

    def lineage(self, spec: Spec) -> dict[str, Any]:
        """Where the bundle comes from."""
        model = self.job.inputs["model"]
        return {
            "run": self.job.run_id,
            "candidate": spec.name,
            "base_model": json.loads((model / "model.json").read_bytes())["model"],
            "dataset_sha256": tree_digest(self.dataset),
            "model_sha256": tree_digest(model),
            "processor": signature(),
            "harvest_rows": self.about.get("harvest_rows", 0),
            "learnt_valid": self.unseen is not None,
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {name: version(name) for name in LIBRARIES},
        }


def report(work: Bench, trials: list[Trial], best: Trial, fields: Mapping[str, Any]) -> Report:
    """What was made, measured, refused and chosen."""
    assert best.entry is not None
    found, size_mb = best.entry.measured, best.entry.size_mb
    metrics, metric = fields["metrics"], work.metric.name
    numbers: dict[str, Number] = {
        "candidate": best.spec.name,
        "candidates": len(trials),
        "candidates_refused": sum(bool(trial.refused) for trial in trials),
        **{f"{VALID}{name}": value for name, value in metrics["valid"].items()},
        f"{VALID}{metric}_trained": work.trained_quality,
        "agreement": found.agreement,
        "size_mb": round(size_mb, 3),
        **{name: rounded(value) for name, value in costs(found.figures).items()},
        **{name: value for name, value in fields["settings"].items() if isinstance(value, float | str)},
        "baseline_valid": metrics["baseline"]["valid"],
        "baseline_test": metrics["baseline"]["test"],
    }
    each = "token" if work.task.runtime == "stepper" else "request"
    return Report(
        headline=f"{best.spec.name} becomes the bundle: {size_mb:.1f} MB, {found.cost_ms:.1f} ms a {each},"
        f" {metric} {found.quality:.4f} on validation (trained model {work.trained_quality:.4f})",
        numbers=numbers,
        tables=[table(trials, best), quality_table(trials, work.trained_figures)],
        curves=trade_offs(trials, work.metric),
        warnings=[*noted(metrics["valid"]), *warnings(trials)],
    )


def table(trials: list[Trial], best: Trial | None = None) -> Table:
    """Every candidate with what it costs, how good it is and what became of it."""
    measured = [trial.entry.measured for trial in trials if trial.entry is not None]
    shown = list(dict.fromkeys(name for found in measured for name in costs(found.figures)))
    columns = [
        "candidate", "size MB", *(heading(name) for name in shown), "times float32", "on validation", "change",
        "agreement", "verdict",
    ]  # fmt: skip
    rows = [row(trial, shown, trial is best) for trial in trials]
    return Table("Candidates, measured on this machine", columns, rows)


def quality_table(trials: list[Trial], trained: Mapping[str, float]) -> Table:
    """What each candidate's figures are on validation, the trained model's above them."""
    measured = {trial.spec.name: trial.entry.measured.figures for trial in trials if trial.entry is not None}
    rows: list[list[Number]] = [["trained model", *trained.values()]]
    rows += [[name, *(figures.get(f"{VALID}{figure}") for figure in trained)] for name, figures in measured.items()]
    return Table("Before and after, on validation", ["candidate", *trained], rows)


def row(trial: Trial, shown: list[str], chosen: bool) -> list[Number]:
    """A candidate's line in the table."""
    verdict = "chosen" if chosen else "refused: " + "; ".join(trial.refused) if trial.refused else "allowed"
    entry = trial.entry
    if entry is None:
        return [trial.spec.name, None, *(None for _ in shown), None, None, None, None, verdict]
    found = entry.measured
    told = [found.figures.get(name) for name in shown]
    change = None if entry.change is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(*entry.change)
    return [
        entry.name, entry.size_mb, *told, round(entry.slower, 2), found.quality, change, found.agreement, verdict,
    ]  # fmt: skip


def trade_offs(trials: list[Trial], metric: Metric) -> list[Curve]:
    """Quality by size and by time of an answer: each candidate a point, and the line of those that no other beats."""
    entries = [trial.entry for trial in trials if trial.entry is not None]
    if len(entries) < 2:
        return []
    axes = (("size, MB", lambda one: one.size_mb), ("one answer, ms", lambda one: one.measured.cost_ms))
    return [
        Curve(f"Quality by {x}", x, "on validation", {
            "no other is better in both": front([(cost(one), one.measured.quality) for one in entries], metric),
            **{one.name: [(cost(one), one.measured.quality)] for one in entries},
        })
        for x, cost in axes
    ]  # fmt: skip


def front(points: list[tuple[float, float]], metric: Metric) -> list[tuple[float, float]]:
    """The points (cost, quality) that no other beats in both (Pareto), from the cheapest on."""
    best: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -metric.gain(point[1], 0.0))):
        if not best or metric.gain(quality, best[-1][1]) > 0:
            best.append((cost, quality))
    return best


def costs(figures: Mapping[str, Number]) -> dict[str, Number]:
    """The figures that don't begin with `VALID`."""
    return {name: value for name, value in figures.items() if not name.startswith(VALID)}


def heading(figure: str) -> str:
    """A figure's name as a column's: latency_p50_ms is p50 ms, rows_per_s is rows/s."""
    return figure.removeprefix("latency_").replace("_per_s", "/s").replace("_", " ")


def rounded(value: Number) -> Number:
    """Figures of time to three decimals: more are noise."""
    return round(value, 3) if isinstance(value, float) else value


def noted(valid: Mapping[str, Any]) -> list[str]:
    """What choosing when to abstain had to say."""
    return [str(valid["abstain_note"])] if "abstain_note" in valid else []


def warnings(trials: list[Trial]) -> list[str]:
    """What deserves a person's eye: the plain export must say what the trained model says."""
    exported = trials[0].entry
    if exported is not None and exported.measured.agreement < 0.99:
        share = exported.measured.agreement
        return [f"the float32 export agrees with the trained model on only {share:.1%} of the validation rows"]
    return []
