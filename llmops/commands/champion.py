"""promote and rollback: the champion pointer moved by hand."""

from __future__ import annotations

from llmops.core.console import Console
from llmops.core.run import RunStore
from llmops.project import Project
from llmops.registry import store as registry


def promote_run(project: Project, run_id: str, console: Console) -> None:
    """Make the bundle of a run the champion, whatever the gates said."""
    run = RunStore(project.places.runs).find(run_id)
    bundle = run.open_artifact("compress", "bundle")
    version = registry.promote(project.places.registry, bundle, None, run.id)
    console.say(
        f"version {version} (run {run.id}) is champion now; a running server swaps within a second", style="green"
    )
    if console.json:
        console.result({"champion": version, "run": run.id})


def roll_back(project: Project, version: int | None, console: Console) -> None:
    """Make an earlier version the champion again."""
    now = registry.rollback(project.places.registry, version)
    console.say(f"version {now} is champion again; a running server swaps within a second", style="green")
    if console.json:
        console.result({"champion": now})
