"""runs, show and compare: what was run, with which settings, and how good it was."""

from __future__ import annotations

from typing import Any

import yaml

from llmops.core.console import Console
from llmops.core.report import Table
from llmops.core.run import RunFolder, RunStore
from llmops.loop import LOOP
from llmops.project import Project
from llmops.registry import store as registry


def list_runs(project: Project, console: Console) -> None:
    """A table of all runs, newest first."""
    metric = project.task.metric(project.sections["task"]).name
    versions = {version.run: version for version in registry.versions(project.places.registry)}
    rows: list[list[Any]] = []
    for run in RunStore(project.places.runs).runs():
        numbers = figures(run)
        done = [row.name for row in LOOP if run.sealed(row.name) is not None]
        version = versions.get(run.id)
        mark = f"{version.number}{' champion' if version.champion else ''}" if version else ""
        rows.append([run.id, run.noted().get("made_at", "")[:16], " ".join(done), numbers.get(metric), mark])
    if console.json:
        keys = ["run", "made_at", "stages", metric, "version"]
        console.result([dict(zip(keys, row, strict=True)) for row in rows])
    elif rows:
        console.table(Table("", ["run", "made", "stages", metric, "version"], rows))
    else:
        console.say(f"no runs yet; next:  llmops run {project.document.path}")


def figures(run: RunFolder) -> dict[str, Any]:
    """Every stage's numbers in one mapping; later stages win."""
    numbers: dict[str, Any] = {}
    for row in LOOP:
        if (report := run.report(row.name)) is not None:
            numbers.update(report.numbers)
    return numbers


def show_run(project: Project, run_id: str, console: Console) -> None:
    """Every stage's headline, figures and warnings."""
    run = RunStore(project.places.runs).find(run_id)
    if console.json:
        reports = {row.name: report.plain() for row in LOOP if (report := run.report(row.name)) is not None}
        console.result({"run": run.id, **run.noted(), "reports": reports})
        return
    console.say(f"run {run.id}   {run.path}", style="bold")
    for row in LOOP:
        report = run.report(row.name)
        if report is None:
            continue
        console.say("")
        console.say(f"{row.name}: {report.headline}", style="bold")
        for warning in report.warnings:
            console.warn(warning)
        console.table(Table("", ["figure", "value"], [[key, value] for key, value in report.numbers.items()]))
        for table in report.tables:
            console.table(Table(table.title, table.columns, table.rows[:12]))
        for passage in report.passages:
            console.passage(passage)


def compare_runs(project: Project, first: str, second: str, console: Console) -> None:
    """Settings and figures in which two runs differ."""
    store = RunStore(project.places.runs)
    a, b = store.find(first), store.find(second)
    settings = _differing(_settings(a), _settings(b))
    numbers = _differing(figures(a), figures(b))
    if console.json:
        console.result({"runs": [a.id, b.id], "settings": settings, "figures": numbers})
        return
    for title, differing in (("Settings that differ", settings), ("Figures that differ", numbers)):
        rows = [[key, _text(one), _text(other), _change(one, other)] for key, (one, other) in differing.items()]
        console.table(Table(title if rows else f"{title}: none", ["", a.id, b.id, "change"], rows))


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in [*a, *(k for k in b if k not in a)] if a.get(key) != b.get(key)}


def _settings(run: RunFolder) -> dict[str, Any]:
    """The run's config as dotted keys."""
    path = run.path / "config.yaml"
    flat: dict[str, Any] = {}

    def walk(value: Any, at: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{at}.{key}" if at else str(key))
        else:
            flat[at] = value

    walk(yaml.safe_load(path.read_text()) if path.exists() else {}, "")
    return flat


def _text(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else str(value)


def _change(one: Any, other: Any) -> str:
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return f"{other - one:+.4g}" if numeric else ""
