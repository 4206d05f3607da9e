"""What is done already and what must be done: the key of each step, and the run that the work belongs to.

A step's key is a digest of everything that decides its result: the settings it reads, the files it reads,
the digests of the artifacts it takes, the seed, the version of its code, and the versions of the
libraries it names. Two steps with one key are the same work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from llmops.core.artifact import json_digest, tree_digest
from llmops.core.errors import ConfigError, Mistake
from llmops.core.protocols import Base
from llmops.core.run import RunFolder, RunStore, Sealed
from llmops.lineage import base_of
from llmops.loop import LOOP, Step, stage
from llmops.project import Project

State = Literal["done", "reuse", "run"]


@dataclass(frozen=True)
class Planned:
    """One step of a plan: `done` in the plan's run already, to `reuse` from the run `holder`, or to `run`.

    `key` is None while it depends on work that is not done yet. `base` is what an update starts from, where the step
    wants one.
    """

    step: Step
    state: State
    key: str | None
    holder: RunFolder | None = None
    why: str = ""
    base: Base | None = None


@dataclass
class Plan:
    """The steps up to the one asked for, and the run they belong to (None: a new one)."""

    steps: list[Planned]
    run: RunFolder | None
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def to_do(self) -> list[Planned]:
        """Steps that are not done in the plan's run."""
        return [planned for planned in self.steps if planned.state != "done"]

    @property
    def work(self) -> list[Planned]:
        """Steps that really have to run."""
        return [planned for planned in self.steps if planned.state == "run"]


def steps_upto(project: Project, last: str) -> list[Step]:
    """The steps of the loop up to `last`, without optional ones that the config does not ask for."""
    names = [row.name for row in LOOP]
    return [row for row in LOOP[: names.index(last) + 1] if row.name in project.sections]


def check_all(project: Project, steps: Iterable[Step]) -> None:
    """Let every step look for mistakes before any work is done. Raises ConfigError with all of them."""
    mistakes: list[Mistake] = []
    for row in steps:
        for mistake in stage(row).check(project.sections, project.task, project.places):
            where, shown = _place(project, mistake)
            mistakes.append(Mistake(mistake.what, where, shown, mistake.do))
    if mistakes:
        raise ConfigError(str(project.document.path), mistakes)


def _place(project: Project, mistake: Mistake) -> tuple[str, str]:
    """Stages name a key such as `tune.space.epochs`; the file knows where it stands."""
    keys = tuple(int(part) if part.isdigit() else part for part in mistake.where.split("."))
    place, shown = project.document.where(keys)
    return (place, shown) if mistake.where else (str(project.document.path), "")


def step_key(project: Project, store: RunStore, row: Step, digests: dict[str, str]) -> tuple[str, Base | None]:
    """The key of a step whose artifacts to take have these digests, and the base that is part of it."""
    made = stage(row)
    depends = made.depends(project.sections, project.task, project.places)
    files = {str(path): _file_state(path) for path in depends.files}
    base = base_of(project, store, digests["dataset"]) if depends.base else None
    key = json_digest(
        {
            "stage": [made.name, made.version],
            "task": [project.task.name, project.task.version],
            "settings": depends.settings,
            "files": [files[name] for name in sorted(files)],
            "libraries": {name: _library(name) for name in sorted(depends.libraries)},
            "takes": {kind: digests[kind] for kind in row.takes},
            "seed": project.config.seed,
            **({"base": base.sha256} if base else {}),
        }
    )
    return key, base


def _file_state(path: Path) -> str:
    return tree_digest(path) if path.exists() else "absent"


def _library(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def make_plan(project: Project, store: RunStore, last: str, target: RunFolder | None = None) -> Plan:
    """What `llmops run` (or one stage's command) would do. `target` is the run asked for by name."""
    asked = target is not None
    run = target or next(iter(store.runs()), None)
    steps = steps_upto(project, last)
    plan = Plan([], run)
    for row in steps:
        plan.steps.append(plan_step(project, store, row, run, plan.digests))
    if run is not None and not asked and _conflicts(run, plan, {row.name for row in steps}):
        plan.run = None
        plan.steps = [_moved(planned, run) for planned in plan.steps]
    return plan


def plan_step(project: Project, store: RunStore, row: Step, run: RunFolder | None, digests: dict[str, str]) -> Planned:
    """Plan one step; when it is done somewhere, `digests` learns what it gave."""
    if any(kind not in digests for kind in row.takes):
        _forget(row, digests)
        return Planned(row, "run", None, why="what it takes is not made yet")
    key, base = step_key(project, store, row, digests)
    here = run.sealed(row.name) if run is not None else None
    if here is not None and here.key == key and not here.refused:
        _learn(row, here, digests)
        return Planned(row, "done", key, run)
    holder = store.reusable(row.name, key)
    if holder is not None:
        found = holder.sealed(row.name)
        assert found is not None
        _learn(row, found, digests)
        return Planned(row, "reuse", key, holder)
    _forget(row, digests)
    return Planned(row, "run", key, why=_why(here), base=base)


def _why(here: Sealed | None) -> str:
    if here is None:
        return "not done yet"
    return "a gate refused it: " + ", ".join(here.refused) if here.refused else "its settings, inputs or code changed"


def _learn(row: Step, sealed: Sealed, digests: dict[str, str]) -> None:
    digests.update({kind: sealed.artifact(kind).sha256 for kind in row.gives})


def _forget(row: Step, digests: dict[str, str]) -> None:
    for kind in row.gives:
        digests.pop(kind, None)


def _conflicts(run: RunFolder, plan: Plan, wanted: set[str]) -> bool:
    """Whether doing the plan inside `run` would overwrite something that other settings made."""
    for planned in plan.to_do:
        sealed = run.sealed(planned.step.name)
        if sealed is not None and not sealed.refused and not planned.step.replaceable:
            return True
    later = [row for row in LOOP if row.name not in wanted and run.sealed(row.name) is not None]
    return bool(later and plan.to_do)


def _moved(planned: Planned, run: RunFolder) -> Planned:
    """The same step for a new run: what was done in `run` is shared with it."""
    return Planned(planned.step, "reuse", planned.key, run) if planned.state == "done" else planned
