"""Runs the loop: plan, check, open the run, share what is done, run the rest, judge by the gates, seal."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmops import __version__
from llmops.core import gates
from llmops.core.artifact import write_whole
from llmops.core.console import Console
from llmops.core.errors import DataError, GateRefused, MachineError
from llmops.core.heap import share_memory
from llmops.core.lock import held
from llmops.core.protocols import GatedStage, Job
from llmops.core.report import Report, Table
from llmops.core.run import RunFolder, RunStore, Sealed, StageRoom
from llmops.loop import LOOP, Step, stage, step
from llmops.planner import Plan, Planned, check_all, make_plan, plan_step, steps_upto
from llmops.project import Project
from llmops.registry import store as registry

LIBRARIES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers")
EXTRA_HINT = "install the training extra: pip install 'llmops-loop[train]'"


@dataclass
class Done:
    """One step of an outcome: `state` is done (already), reuse, run or refused."""

    name: str
    state: str
    took_s: float
    report: Report | None
    refused: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What a command did: the run it worked in (None: no run stands) and its steps."""

    run: RunFolder | None
    steps: list[Done] = field(default_factory=list)

    @property
    def refused(self) -> list[str]:
        """The gates that said no."""
        return [gate for done in self.steps for gate in done.refused]

    @property
    def worked(self) -> bool:
        """Whether anything was run."""
        return any(done.state in ("run", "refused") for done in self.steps)


class Runner:
    """Runs steps of one project."""

    def __init__(self, project: Project, console: Console) -> None:
        self.project, self.console = project, console
        self.store = RunStore(project.places.runs)

    def plan(self, last: str, run_id: str | None = None) -> Plan:
        """What `run(last)` would do. Raises ConfigError with every mistake that a stage can see beforehand."""
        check_all(self.project, steps_upto(self.project, last))
        return make_plan(self.project, self.store, last, self.store.find(run_id) if run_id else None)

    def run(self, last: str, run_id: str | None = None) -> Outcome:
        """Walk the loop up to `last`, doing only what is not done. A refused gate is in the outcome, not raised."""
        plan = self.plan(last, run_id)
        if not plan.to_do:
            return self._nothing(plan)
        with held(self.project.places.runs / ".lock", f"llmops {last}"):
            plan = self.plan(last, run_id)  # another command may have done it while we looked
            if not plan.to_do:
                return self._nothing(plan)
            run = plan.run or self.store.new()
            self._describe(run)
            self.console.log_to(run.path / "log.txt")
            return self._walk(plan, run)

    def run_one(self, name: str, run: RunFolder) -> Outcome:
        """Do one step on what a run holds, whatever the config's other settings say now (feedback on the champion)."""
        row = step(name)
        check_all(self.project, [row])
        with held(self.project.places.runs / ".lock", f"llmops {name}"):
            held_digests = self._digests(run, row)
            planned = plan_step(self.project, self.store, row, run, held_digests)
            outcome = Outcome(run)
            if planned.state == "done":
                outcome.steps.append(Done(name, "done", 0.0, run.report(name)))
            else:
                self.console.log_to(run.path / "log.txt")
                outcome.steps.append(self._step(planned, run, held_digests))
            return outcome

    def _nothing(self, plan: Plan) -> Outcome:
        run = plan.run
        steps = [Done(p.step.name, "done", 0.0, run.report(p.step.name) if run else None) for p in plan.steps]
        return Outcome(run, steps)

    def _describe(self, run: RunFolder) -> None:
        """Write the config as resolved and the machine into the run."""
        write_whole(run.path / "config.yaml", self.project.saved())
        machine = {"system": platform.platform(), "python": sys.version.split()[0], "processor": platform.machine()}
        run.note(project=self.project.name, llmops=__version__, machine=machine, config=str(self.project.document.path))

    def _walk(self, plan: Plan, run: RunFolder) -> Outcome:
        outcome = Outcome(run)
        digests: dict[str, str] = {}
        for planned in plan.steps:
            # Planned anew: by now the steps before it are done, so its key is known.
            now = plan_step(self.project, self.store, planned.step, run, digests)
            if now.state == "done":
                outcome.steps.append(Done(now.step.name, "done", 0.0, run.report(now.step.name)))
            elif now.state == "reuse" and now.holder is not None:
                self.store.share(now.step.name, now.holder, run)
                run.emit(now.step.name, "reused", source=now.holder.id)
                outcome.steps.append(Done(now.step.name, "reuse", 0.0, run.report(now.step.name)))
            else:
                done = self._step(now, run, digests)
                outcome.steps.append(done)
                if done.refused:
                    break
        self._note_stages(run)
        return outcome

    def _step(self, planned: Planned, run: RunFolder, digests: dict[str, str]) -> Done:
        """Run one step and seal what it left."""
        row, key = planned.step, planned.key
        assert key is not None, f"{row.name} has no key"
        self.console.say(f"{row.name}: {row.does}", style="bold")
        started = time.monotonic()
        room = self.store.room(run, row.name, key, self.console)
        job = self._job(planned, run, room)
        run.emit(row.name, "started", key=key)
        made = stage(row)
        share_memory()
        try:
            report = made.run(job)
        except ModuleNotFoundError as error:
            raise MachineError(f"the package {error.name} is not installed", f"stage {row.name}", EXTRA_HINT) from error
        refused = self._judge(made, job, report) if row.gated else []
        took_s = round(time.monotonic() - started, 3)
        report.numbers.setdefault("stage_s", took_s)
        artifacts = list(self.store.artifacts(run, row.name, row.gives, room.out))
        made_at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        sealed = Sealed(row.name, key, made.version, made_at, took_s, artifacts, refused)
        self.store.seal(run, room, sealed, report)
        digests.update({artifact.kind: artifact.sha256 for artifact in artifacts})
        run.emit(row.name, "refused" if refused else "done", took_s=took_s, numbers=report.numbers)
        self._tell(report)
        return Done(row.name, "refused" if refused else "run", took_s, report, refused)

    def _job(self, planned: Planned, run: RunFolder, room: StageRoom) -> Job:
        row = planned.step
        before = [
            other for other in LOOP[: [r.name for r in LOOP].index(row.name)] if run.sealed(other.name) is not None
        ]
        inputs: dict[str, Path] = {}
        for kind in (*row.takes, *row.consults):
            givers = [other.name for other in before if kind in other.gives]
            if not givers:
                what = f"`{row.name}` takes a {kind}, and the run {run.id} has none"
                raise DataError(
                    what, str(run.path), f"run the stages before it: llmops run {self.project.document.path}"
                )
            inputs[kind] = run.open_artifact(givers[-1], kind)
        project = self.project
        champion = registry.champion(project.places.registry)
        return Job(
            project.name, project.sections, project.task, inputs, room, project.places, project.config.seed,
            champion[1] if champion else None, run.id, str(project.document.path), planned.base,
        )  # fmt: skip

    def _digests(self, run: RunFolder, row: Step) -> dict[str, str]:
        """Digests of the artifacts that stand in a run before a step."""
        digests: dict[str, str] = {}
        for other in LOOP[: [r.name for r in LOOP].index(row.name)]:
            if (sealed := run.sealed(other.name)) is not None:
                digests.update({artifact.kind: artifact.sha256 for artifact in sealed.artifacts})
        return digests

    def _judge(self, made: Any, job: Job, report: Report) -> list[str]:
        """Compare the report with the gates; promote what passes. Returns the gates that refused."""
        gated: GatedStage = made
        accept: Mapping[str, Any] = self.project.sections["need"].plain()["accept"]
        verdicts = gates.judge(report.numbers, accept)
        rows: list[list[Any]] = [
            [v.gate, v.bound, v.value, "passed" if v.passed else "REFUSED", v.why] for v in verdicts
        ]
        gate_table = Table("Gates", ["gate", "must be", "is", "verdict", "why"], rows)
        report.tables.insert(0, gate_table)
        self.console.table(gate_table, columns=4)
        refused = [f"{v.gate}: {v.why}" for v in verdicts if not v.passed]
        if refused:
            report.headline = f"refused: {'; '.join(refused)}"
        else:
            gated.promote(job, report)
        return refused

    def _note_stages(self, run: RunFolder) -> None:
        stages = {}
        for row in LOOP:
            if (sealed := run.sealed(row.name)) is not None:
                kinds = {artifact.kind: artifact.sha256 for artifact in sealed.artifacts}
                stages[row.name] = {
                    "key": sealed.key,
                    "took_s": sealed.took_s,
                    "refused": sealed.refused,
                    "artifacts": kinds,
                }
        run.note(stages=stages, versions={name: _version(name) for name in LIBRARIES})

    def _tell(self, report: Report) -> None:
        self.console.say(f"  {report.headline}")
        for warning in report.warnings:
            self.console.warn(warning)
        for passage in report.passages:
            self.console.passage(passage)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None


def refuse(outcome: Outcome) -> None:
    """Raise GateRefused when a gate said no."""
    if outcome.refused:
        where = f"run {outcome.run.id}" if outcome.run else ""
        do = "improve the data or the settings, or change need.accept; the champion that serves was left in place"
        raise GateRefused("a gate refused the candidate: " + "; ".join(outcome.refused), where, do)


def last_verdict(run: RunFolder) -> dict[str, Any] | None:
    """The feedback stage's verdict in a run."""
    path = run.path / "feedback" / "verdict.json"
    verdict: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return verdict
