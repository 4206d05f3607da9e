"""deploy: proves the bundle through the real server; what the gates let pass becomes champion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.bundle import format as bundle_format
from llmops.bundle.format import Manifest
from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Places, Proof, Task
from llmops.core.report import Number, Report
from llmops.core.section import Section
from llmops.fields.rows import read_split
from llmops.registry import store
from llmops.stages.deploy.config import DeploySection

UNMEASURED = ("host", "port", "max_text_chars", "max_body_kb", "keep_traffic_days")
"""Settings that don't change what the server answers to a held-out row, nor how fast, nor who may ask it."""


class DeployStage:
    """Takes bundle, dataset and model; gives the proof."""

    name = "deploy"
    version = 7

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        """The server's settings that count, and what computes. Where it listens in production changes nothing."""
        plain = sections["deploy"].plain()
        measured = {name: value for name, value in plain.items() if name not in UNMEASURED}
        accept = sections["need"].plain()["accept"]
        return Depends(
            {"deploy": measured, "task": sections["task"].plain(), "accept": accept},
            libraries=("onnxruntime", "tokenizers", "starlette", "uvicorn"),
        )

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        """Nothing that a valid section could get wrong before the work."""
        return []

    def run(self, job: Job) -> Report:
        """Let the task query the real server with every held-out row; compare with baseline and champion.

        Raises DataError when the server does not come up or refuses a row; its last words are in the error.
        """
        bundle, settings = job.inputs["bundle"], job.section("deploy", DeploySection)
        manifest = bundle_format.read(bundle)
        proof = _prove(job, bundle, settings)
        size_mb = bundle_format.size_mb(bundle)
        compared, said = _compared(job, proof, manifest.metrics.get("baseline") or {}, settings.threads)
        numbers: dict[str, Number] = {**proof.numbers, "size_mb": size_mb, **compared}
        report = Report(
            f"{proof.headline.rstrip('.')}, {size_mb:.1f} MB.",
            numbers,
            proof.tables,
            curves=proof.curves,
            warnings=[*_warnings(job, proof, manifest, settings), *proof.warnings, *said],
            passages=proof.passages,
            grids=proof.grids,
        )
        _write_proof(job.room.out / "proof", proof, report)
        return report

    def promote(self, job: Job, report: Report) -> None:
        """Make the proven bundle the champion, with the container files beside it; says so in the report."""
        from llmops.stages.deploy.container import write_container
        from llmops.stages.deploy.manifests import write_manifests

        extras = job.room.work / "container"
        shutil.rmtree(extras, ignore_errors=True)
        extras.mkdir(parents=True)
        settings = job.section("deploy", DeploySection)
        warning = write_container(extras, job.project, settings)
        write_manifests(extras, job.project, settings, bundle_format.size_mb(job.inputs["bundle"]))
        if warning:
            report.warnings.append(warning)
        version = store.promote(job.places.registry, job.inputs["bundle"], extras, job.run_id)
        shutil.rmtree(extras)
        report.numbers["version"] = version
        report.headline = f"Version {version} is the champion. {report.headline}"
        folder = job.places.registry / "versions" / str(version)
        report.next += [f"llmops serve {job.config_path}", f"docker compose -f {folder / 'compose.yaml'} up"]


def _prove(job: Job, bundle: Path, settings: DeploySection) -> Proof:
    """Start the server on the bundle and let the task ask it."""
    from llmops.stages.deploy.prove import BundleServer

    work = job.room.work / "server"
    shutil.rmtree(work, ignore_errors=True)  # a killed run's traffic is not this one's
    work.mkdir(parents=True)
    with BundleServer(bundle, settings, work) as server:
        return job.task.prove(job.sections["task"], job.inputs["dataset"], bundle, server, _trained(job), job.room)


def _trained(job: Job) -> Any:
    """What the server's answers are held against: the trained model; where the bundle is a student of it, the student
    before its numbers changed."""
    from llmops.stages.deploy.twin import Twin

    twin = job.inputs["bundle"].with_name(bundle_format.TWIN)
    if twin.exists():
        return Twin(twin)
    learner = job.task.learner(job.sections["task"], job.sections["train"], job.seed)
    learner.load(job.inputs["model"])
    return learner


def _compared(job: Job, proof: Proof, baseline: Mapping[str, Any], threads: int) -> tuple[dict[str, Number], list[str]]:
    """The task's metric against the baseline's (by split) and the champion's: above 0 is better; None where there is
    none. And what is to be said about it."""
    metric = job.task.metric(job.sections["task"])
    found = proof.numbers[metric.name]
    assert isinstance(found, int | float), f"the proof has no figure {metric.name}"
    theirs = baseline.get(proof.split)
    champion, said = _champion(job, proof.split, threads)
    return {
        "baseline": theirs,
        "above_baseline": None if theirs is None else metric.gain(found, theirs),
        "champion": champion,
        "champion_delta": None if champion is None else metric.gain(found, champion),
    }, [*said, *_worse(metric.name, found, theirs, metric.gain(found, theirs or 0.0))]


def _worse(metric: str, found: float, baseline: float | None, gain: float) -> list[str]:
    """A word on a model that is not worth its while."""
    if baseline is None or gain >= 0:
        return []
    return [f"the baseline does better on these rows: {metric} {baseline:.4g}, the model {found:.4g}"]


def _champion(job: Job, split: str, threads: int) -> tuple[float | None, list[str]]:
    """The champion's metric on the same rows, computed by its own codec and runtime; or None and why there is none.

    Raises DataError for a champion that is damaged.
    """
    from llmops.bundle.predictor import Predictor

    if job.champion is None:
        return None, []
    try:
        task = bundle_format.read(job.champion).task
    except bundle_format.OldFormat as error:
        return None, [f"the champion could not be compared: {error}"]
    if task != job.task.name:
        return None, [f"the champion could not be compared: it is of the task {task}"]
    opened = Predictor.open(job.champion, threads)
    found = job.task.score(job.sections["task"], job.inputs["dataset"], split, opened)
    return found, [] if found is not None else ["the champion could not be compared in this metric"]


def _warnings(job: Job, proof: Proof, manifest: Manifest, settings: DeploySection) -> list[str]:
    """What any task's proof may deserve an eye for."""
    said = []
    if proof.split != "test":
        said.append(
            "there is no test row: all figures are of the validation rows, which the training has seen the result of"
        )
    if manifest.runtime == "oneshot":
        said += _too_long(job, proof.split, settings.max_text_chars)
    accept = job.sections["need"].plain()["accept"] if "need" in job.sections else {}
    return said + [line for gate, bounds in accept.items() if (line := _too_close(gate, bounds or {}, proof.numbers))]


def _too_long(job: Job, split: str, limit: int) -> list[str]:
    """A word on held-out rows whose inputs in words are longer than the server takes."""
    section = job.sections["task"]
    names = [name for name, kind in job.task.inputs(section).items() if kind.name == "text"]
    rows = read_split(job.inputs["dataset"], split)
    longest = max((len(value or "") for name in names for value in rows.values(name)), default=0)
    if longest <= limit:
        return []
    return [f"a test row has {longest:,} characters; texts above deploy.max_text_chars are refused with 413"]


def _too_close(gate: str, bounds: Mapping[str, Any], numbers: Mapping[str, Any]) -> str | None:
    """A word on a gate that lies inside the interval of its figure (GATE_low to GATE_high), where there is one."""
    if f"{gate}_low" not in numbers:
        return None
    half = (numbers[f"{gate}_high"] - numbers[f"{gate}_low"]) / 2
    rows = numbers["events"] if gate == "recall" else numbers.get("in_scope_rows", numbers.get("rows"))
    for bound in (bounds.get("at_least"), bounds.get("at_most")):
        if bound is not None and abs(numbers[gate] - bound) < half:
            return (
                f"{gate} {numbers[gate]:.3f} lies {abs(numbers[gate] - bound):.3f} from its gate {bound:g}; "
                f"{rows} rows can only show differences above {half:.3f}"
            )
    return None


def _write_proof(folder: Path, proof: Proof, report: Report) -> None:
    """answers.jsonl: a line for each answer; proof.json: the figures."""
    folder.mkdir(parents=True)
    write_whole(folder / "answers.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in proof.lines))
    write_json(
        folder / "proof.json",
        {"format": 1, "split": proof.split, "headline": report.headline, "numbers": report.numbers},
    )
