"""The stage `compress`: makes candidates, measures each here, and the best within the limits becomes the bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.artifact import tree_digest, write_whole
from llmops.core.errors import DataError, GateRefused, Mistake
from llmops.core.protocols import Depends, Job, Places, Task
from llmops.core.report import Number, Report, Table, markdown_table
from llmops.core.section import Section
from llmops.stages.compress.candidates import FLOAT32, Spec, Workshop, specs
from llmops.stages.compress.card import model_card
from llmops.stages.compress.config import CompressSection

if TYPE_CHECKING:
    import numpy as np

    from llmops.stages.compress.measure import Measured

LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "tokenizers", "torch", "transformers")
COLUMNS = ["candidate", "size MB", "p50 ms", "p95 ms", "rows/s at 16", "on validation", "agreement", "verdict"]


@dataclass
class Trial:
    """One candidate: its figures, unless it could not be made, and why it is refused, if it is."""

    spec: Spec
    measured: Measured | None = None
    refused: list[str] = field(default_factory=list)


class CompressStage:
    """See the module."""

    name = "compress"
    version = 2

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        need = sections["need"].plain()
        settings = {
            "compress": sections["compress"].plain(),
            "task": sections["task"].plain(),
            "goal": need["goal"],
            "gates": {name: need["accept"][name] for name in ("size_mb", "latency_p95_ms", "parity")},
        }
        return Depends(settings=settings, libraries=LIBRARIES)

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        section = sections["compress"]
        assert isinstance(section, CompressSection)
        names = [spec.name for spec in specs(section)]
        return [
            Mistake(f"the candidate {name} stands there twice.", f"compress.candidates.{index}", do="leave one out")
            for index, name in enumerate(names)
            if name in names[:index]
        ]

    def run(self, job: Job) -> Report:
        work = Bench(job)
        trials = work.trials()
        best = work.best(trials)
        fields = work.fields(best)
        bundle = job.room.out / "bundle"
        work.workshop.hand_over(best.spec, bundle)
        goal = str(job.sections["need"].plain()["goal"])
        write_whole(bundle / "MODEL_CARD.md", model_card(job.project, goal, fields, work.about))
        work.seal(bundle, fields)
        return report(work, trials, best, fields)


class Bench:
    """Makes and measures the candidates of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.section = job.section("compress", CompressSection)
        task: Any = job.sections["task"]
        self.metric: str = task.metric
        self.accept: dict[str, Any] = job.sections["need"].plain()["accept"]
        self.dataset = job.inputs["dataset"]
        self.about: dict[str, Any] = json.loads((self.dataset / "dataset.json").read_bytes())
        self.workshop = Workshop(job)
        self.trained: np.ndarray[Any, Any] = self.workshop.learner.predict(self.dataset, "valid")
        self.trained_quality = self.quality(self.trained)

    def quality(self, answers: np.ndarray[Any, Any]) -> float:
        """The task's metric of raw answers to the validation rows."""
        return self.job.task.quality(self.dataset, "valid", answers)[self.metric]

    def trials(self) -> list[Trial]:
        """Every candidate, made, measured and judged; the plain float32 export always, for comparison."""
        from llmops.stages.compress.choose import reasons

        asked = specs(self.section)
        float32 = Trial(FLOAT32, self.measure(FLOAT32))
        assert float32.measured is not None
        trials = [float32, *(self.attempt(spec) for spec in asked if spec != FLOAT32)]
        for trial in trials:
            if trial.measured is not None:
                found = trial.measured
                limit = self.section.max_quality_loss
                trial.refused += reasons(found, float32.measured, self.trained_quality, limit, self.accept)
        if FLOAT32 not in asked:
            float32.refused.append("not asked for; made for comparison")
        return trials

    def attempt(self, spec: Spec) -> Trial:
        """A candidate, or the reason why it cannot be made from this model."""
        try:
            return Trial(spec, self.measure(spec))
        except DataError as error:
            return Trial(spec, refused=[str(error)])

    def measure(self, spec: Spec) -> Measured:
        """Make one candidate and measure it."""
        from llmops.stages.compress import measure

        folder = self.workshop.make(spec)
        self.job.room.say(f"measuring {spec.name}")
        predictor = measure.open_candidate(folder, self.plain_fields())
        requests = measure.requests_of(predictor.codec, measure.read_rows(self.dataset, "valid"))
        p50, p95 = measure.time_single(predictor, requests)
        answers, rate = measure.answer_all(predictor, requests)
        return measure.Measured(
            name=spec.name,
            size_mb=measure.size_mb(folder),
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            rows_per_s=rate,
            quality=self.quality(answers),
            agreement=self.job.task.agreement(self.dataset, "valid", answers, self.trained),
            answers=answers,
        )

    def best(self, trials: list[Trial]) -> Trial:
        """The candidate that becomes the bundle. Raises GateRefused when none is allowed."""
        from llmops.stages.compress.choose import choose

        allowed = [trial.measured for trial in trials if trial.measured is not None and not trial.refused]
        if not allowed:
            raise GateRefused(
                "no candidate is allowed to serve",
                "compress.candidates",
                "try other candidates, raise `compress.max_quality_loss`, or loosen `need.accept`",
                markdown_table(COLUMNS, [row(trial) for trial in trials]),
            )
        name = choose(allowed, self.section.prefer).name
        return next(trial for trial in trials if trial.spec.name == name)

    def plain_fields(self) -> dict[str, Any]:
        """What bundle.json needs for answering, uncalibrated."""
        labels = json.loads((self.dataset / "labels.json").read_bytes())
        return {
            "task": self.job.task.name,
            "task_version": self.job.task.version,
            "labels": labels,
            "max_tokens": self.about["max_tokens"],
            "cleaning": self.about["cleaning"],
        }

    def fields(self, best: Trial) -> dict[str, Any]:
        """All of bundle.json; temperature and threshold are fitted on this very candidate's answers."""
        found = best.measured
        assert found is not None
        self.job.room.say("linear baseline on the same rows")
        baseline = self.job.task.baseline(self.job.sections["task"], self.dataset)
        calibrated = self.job.task.calibrate(self.dataset, found.answers)
        decides = {name: calibrated.pop(name) for name in ("temperature", "threshold")}
        metrics = {
            "valid": {**self.job.task.quality(self.dataset, "valid", found.answers), **calibrated},
            "trained_valid": {self.metric: self.trained_quality},
            "baseline": {"metric": self.metric, **baseline},
            "agreement": found.agreement,
            "size_mb": found.size_mb,
            "latency_p50_ms": found.latency_p50_ms,
            "latency_p95_ms": found.latency_p95_ms,
            "rows_per_s": found.rows_per_s,
        }
        return {**self.plain_fields(), **decides, "metrics": metrics, "lineage": self.lineage(best.spec)}

    def lineage(self, spec: Spec) -> dict[str, Any]:
        """Where the bundle comes from."""
        model = self.job.inputs["model"]
        return {
            "run": self.job.run_id,
            "candidate": spec.name,
            "base_model": json.loads((model / "model.json").read_bytes())["model"],
            "dataset_sha256": tree_digest(self.dataset),
            "model_sha256": tree_digest(model),
            "harvest_rows": self.about.get("harvest_rows", 0),
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {name: version(name) for name in LIBRARIES},
        }

    def seal(self, bundle: Path, fields: Mapping[str, Any]) -> None:
        """Write bundle.json, last."""
        from llmops.bundle import format as bundle_format

        bundle_format.write(bundle, fields)


def report(work: Bench, trials: list[Trial], best: Trial, fields: Mapping[str, Any]) -> Report:
    """What was made, measured, refused and chosen."""
    found = best.measured
    assert found is not None
    metrics = fields["metrics"]
    numbers: dict[str, Number] = {
        "candidate": best.spec.name,
        "candidates": len(trials),
        "candidates_refused": sum(bool(trial.refused) for trial in trials),
        **{f"valid_{name}": value for name, value in metrics["valid"].items()},
        f"valid_{work.metric}_trained": work.trained_quality,
        "agreement": found.agreement,
        "size_mb": round(found.size_mb, 3),
        "latency_p50_ms": round(found.latency_p50_ms, 3),
        "latency_p95_ms": round(found.latency_p95_ms, 3),
        "rows_per_s": round(found.rows_per_s, 1),
        "temperature": fields["temperature"],
        "threshold": fields["threshold"],
        "baseline_valid": metrics["baseline"]["valid"],
        "baseline_test": metrics["baseline"]["test"],
    }
    return Report(
        headline=f"{best.spec.name} becomes the bundle: {found.size_mb:.1f} MB, {found.latency_p50_ms:.1f} ms a"
        f" request, {work.metric} {found.quality:.4f} on validation (trained model {work.trained_quality:.4f})",
        numbers=numbers,
        tables=[Table("Candidates, measured on this machine", COLUMNS, [row(t, t is best) for t in trials])],
        warnings=warnings(trials),
    )


def row(trial: Trial, chosen: bool = False) -> list[Number]:
    """A candidate's line in the table."""
    verdict = "chosen" if chosen else "refused: " + "; ".join(trial.refused) if trial.refused else "allowed"
    found = trial.measured
    if found is None:
        return [trial.spec.name, None, None, None, None, None, None, verdict]
    figures = (
        found.size_mb,
        found.latency_p50_ms,
        found.latency_p95_ms,
        found.rows_per_s,
        found.quality,
        found.agreement,
    )
    return [trial.spec.name, *figures, verdict]


def warnings(trials: list[Trial]) -> list[str]:
    """What deserves a person's eye: the plain export must say what the trained model says."""
    exported = trials[0].measured
    if exported is not None and exported.agreement < 0.99:
        return [
            f"the float32 export agrees with the trained model on only {exported.agreement:.1%} of the validation rows"
        ]
    return []
