"""Lineage: which promoted model an update starts from.

It is the champion's, unless the champion was trained on the very data set at hand: then it is the one that the champion
itself started from. So a loop with nothing new finds all its work done, whoever serves meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from llmops.core.protocols import Base
from llmops.core.run import RunFolder, RunStore, Sealed
from llmops.engine.update import read_history
from llmops.loop import LOOP
from llmops.project import Project
from llmops.registry import store as registry


def base_of(project: Project, store: RunStore, dataset: str) -> Base | None:
    """What an update on the data set with the digest `dataset` starts from.

    None without a champion, when its run is gone, or when its rows were split in another way: then rows that are held
    out now may be among those that it learnt.
    """
    number = registry.champion_number(project.places.registry)
    champion = _version(project, store, number)
    if champion is None:
        return None
    run, made = champion
    if _digest(run, "dataset") != dataset:
        return made
    told = read_history(made.model).get("base")
    return _recorded(project, store, told) if told else None


def _recorded(project: Project, store: RunStore, told: dict[str, Any]) -> Base:
    """What the champion started from: its digest is known even when its files are gone."""
    found = _version(project, store, told["version"])
    if found is not None and found[1].sha256 == told["sha256"]:
        return found[1]
    gone = project.places.registry / "gone"
    return Base(told["version"], told["sha256"], gone, gone)


def _version(project: Project, store: RunStore, number: int | None) -> tuple[RunFolder, Base] | None:
    """The run that a version came from, and its model; None when it cannot be used any more."""
    run_id = next((v.run for v in registry.versions(project.places.registry) if v.number == number), "")
    run = next((run for run in store.runs() if run.id == run_id), None)
    if run is None or not _split_alike(project, run):
        return None
    giver, sealed = _giver(run, "model")
    if sealed is None or (prepared := run.sealed("prepare")) is None:
        return None
    model, data = sealed.artifact("model"), prepared.artifact("dataset")
    assert number is not None
    return run, Base(number, model.sha256, run.path / giver / model.path, run.path / "prepare" / data.path)


def _giver(run: RunFolder, kind: str) -> tuple[str, Sealed | None]:
    """The last step of a run that left an artifact of this kind."""
    for row in reversed(LOOP):
        if kind in row.gives and (sealed := run.sealed(row.name)) is not None:
            return row.name, sealed
    return "", None


def _digest(run: RunFolder, kind: str) -> str | None:
    _, sealed = _giver(run, kind)
    return sealed.artifact(kind).sha256 if sealed else None


def _split_alike(project: Project, run: RunFolder) -> bool:
    """Whether the run cleaned and split its rows as the config does now."""
    try:
        then = yaml.safe_load((run.path / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return False
    return _splitting(then) == _splitting(yaml.safe_load(project.saved()))


def _splitting(config: Mapping[str, Any]) -> list[Any]:
    return [step for step in config["prepare"]["steps"] if not step.get("augment")]
