"""clean: removes what no champion, version or kept run needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmops.core.artifact import tree_files
from llmops.core.console import Console
from llmops.core.lock import held
from llmops.core.report import Number, Table
from llmops.core.run import RunStore
from llmops.project import Project
from llmops.registry import store as registry


def clean_project(project: Project, keep: int, really: bool, console: Console) -> None:
    """Say what can go and how much it frees; remove it when `really`. Waits for nobody: a held lock is refused."""
    with held(project.places.runs / ".lock", "llmops clean"):
        store = RunStore(project.places.runs)
        needed = {version.run for version in registry.versions(project.places.registry)}
        runs = [run for index, run in enumerate(store.runs()) if index >= keep and run.id not in needed]
        doomed = [run.path for run in runs] + store.leftovers()
        freed = [_freed_mb(path) for path in doomed]
        rows: list[list[Number]] = [
            [str(path.relative_to(project.places.runs)), round(mb, 1)] for path, mb in zip(doomed, freed, strict=True)
        ]
        console.table(Table("" if rows else "nothing to remove", ["would go" if not really else "removed", "MB"], rows))
        if really:
            for path in doomed:
                shutil.rmtree(path)
        elif rows:
            console.say("nothing was removed; add --yes to remove these")
        if console.json:
            console.result({"removed": really, "paths": [str(path) for path in doomed], "mb": round(sum(freed), 1)})


def _freed_mb(path: Path) -> float:
    """Megabytes of `path`; a file that several runs share by hard links counts in equal parts."""
    return sum(stat.st_size / stat.st_nlink for stat in map(Path.stat, tree_files(path))) / 1e6
