"""run, the stages' commands, and `run --if-due`: what they do and what they tell at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.core.console import Console
from llmops.core.report import Table
from llmops.core.run import RunFolder
from llmops.planner import Plan
from llmops.project import Project
from llmops.registry import store as registry
from llmops.runner import Outcome, Runner, last_verdict, refuse

DUE = 10
HEADLINE = {
    "done": "already done", "reuse": "reused", "run": "done", "refused": "REFUSED",
}  # fmt: skip


def run_upto(project: Project, last: str, run_id: str | None, dry_run: bool, exit_code: bool, console: Console) -> int:
    """Walk the loop up to `last`. Returns the exit code; raises GateRefused when a gate said no."""
    runner = Runner(project, console)
    if dry_run:
        return tell_plan(runner.plan(last, run_id), exit_code, console)
    outcome = runner.run(last, run_id)
    finish(project, outcome, console)
    refuse(outcome)
    return 0


def tell_plan(plan: Plan, exit_code: bool, console: Console) -> int:
    """Say what would run and why."""
    rows: list[list[Any]] = []
    for planned in plan.steps:
        holder = f"from {planned.holder.id}" if planned.holder and planned.state == "reuse" else planned.why
        rows.append([planned.step.name, {"done": "done", "reuse": "reuse", "run": "RUN"}[planned.state], holder])
    console.table(Table("", ["stage", "would", "why"], rows))
    if console.json:
        console.result({"stages": [{"name": r[0], "state": str(r[1]).lower(), "why": r[2]} for r in rows]})
    return DUE if exit_code and plan.work else 0


def champion_run(runner: Runner) -> RunFolder | None:
    """The run that the champion came from; without a champion the latest run that has a bundle."""
    places = runner.project.places
    now = registry.champion_number(places.registry)
    for version in registry.versions(places.registry):
        if version.number == now:
            return runner.store.find(version.run)
    return next((run for run in runner.store.runs() if run.sealed("compress") is not None), None)


def read_feedback(
    project: Project, run_id: str | None, file: Path | None, dry_run: bool, exit_code: bool, console: Console
) -> int:
    """The feedback stage on the champion's run; with `file`, feedback gathered elsewhere is taken in first."""
    runner = Runner(project, console)
    run = runner.store.find(run_id) if run_id else champion_run(runner)
    if run is None:
        return run_upto(project, "feedback", run_id, dry_run, exit_code, console)
    if file is not None and not dry_run:
        from llmops.stages.feedback.imports import import_file

        console.say(import_file(project, file))
    if dry_run:
        console.say(f"would read the traffic against the run {run.id}")
        return 0
    outcome = runner.run_one("feedback", run)
    finish(project, outcome, console)
    verdict = last_verdict(run) or {}
    return DUE if exit_code and verdict.get("due") else 0


def run_if_due(project: Project, dry_run: bool, exit_code: bool, console: Console) -> int:
    """First feedback; then the whole loop, but only when a trigger fired (or nothing was ever deployed)."""
    runner = Runner(project, console)
    run = champion_run(runner)
    if run is None or registry.champion(project.places.registry) is None:
        console.say("nothing was deployed yet, so the loop is due")
        return run_upto(project, "feedback", None, dry_run, exit_code, console)
    verdict = last_verdict(runner.run_one("feedback", run).run or run) or {}
    if not verdict.get("due"):
        console.say("not due: no trigger fired", style="green")
        if console.json:
            console.result({"due": False, "verdict": verdict})
        return 0
    console.say("due: " + "; ".join(verdict.get("reasons", [])), style="bold")
    if dry_run:
        return tell_plan(runner.plan("feedback"), exit_code, console)
    outcome = runner.run("feedback")
    if not outcome.worked:
        console.say("but there is nothing new to learn from: give corrections, or add rows to the sources")
    finish(project, outcome, console)
    refuse(outcome)
    return 0


def finish(project: Project, outcome: Outcome, console: Console) -> None:
    """The run's page, the summary table, the champion, and what to type next."""
    run = outcome.run
    if run is not None and outcome.worked:
        from llmops.commands.page import write_page

        write_page(run)
    if not outcome.worked:
        console.say("nothing to do: every stage is done with the same inputs and settings", style="green")
    rows: list[list[Any]] = [
        [done.name, HEADLINE[done.state], f"{done.took_s:.1f} s" if done.took_s else "", _headline(done.report)]
        for done in outcome.steps
    ]
    console.table(Table("", ["stage", "", "took", "what it found"], rows))
    champion = registry.champion_number(project.places.registry)
    if run is not None:
        console.say(f"run        {_short(run.path)}")
        console.say(f"report     {_short(run.path) / 'report.html'}")
    if champion is not None:
        console.say(f"champion   version {champion} in {_short(project.places.registry)}")
    for index, command in enumerate(_next(project, outcome, champion)):
        console.say(f"{'next' if index == 0 else '':<11}{command}")
    if console.json:
        console.result(plain_outcome(outcome, champion))


def _headline(report: Any) -> str:
    return report.headline if report is not None else ""


def _next(project: Project, outcome: Outcome, champion: int | None) -> list[str]:
    """Commands that make sense now: the last stage's own, else those of everyday life."""
    config = _short(project.document.path)
    if outcome.refused:
        return [f"llmops show {config}"]
    own = [command for done in outcome.steps[-1:] if done.report is not None for command in done.report.next]
    everyday = [f"llmops serve {config}", f"llmops run {config} --if-due"] if champion else [f"llmops run {config}"]
    return list(dict.fromkeys([command.replace("CONFIG", str(config)) for command in own] + everyday))[:3]


def _short(path: Path) -> Path:
    """The path as seen from here when it lies below, else absolute."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path.resolve()


def plain_outcome(outcome: Outcome, champion: int | None) -> dict[str, Any]:
    """The outcome as JSON."""
    return {
        "run": outcome.run.id if outcome.run else None,
        "path": str(outcome.run.path) if outcome.run else None,
        "champion": champion,
        "refused": outcome.refused,
        "stages": [
            {"name": d.name, "state": d.state, "took_s": d.took_s, "numbers": d.report.numbers if d.report else {}}
            for d in outcome.steps
        ],
    }
