"""An update: a training that starts from the champion's model where it may; and history.json, which tells of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops.core.artifact import tree_digest
from llmops.core.protocols import Base, Learner, Listener, Room
from llmops.fields.rows import read_split

HISTORY = "history.json"
"""Lies beside a trained model: metrics, epochs, precision, and the "base" of an update."""


def train_from(
    base: Base | None, learner: Learner, dataset: Path, work: Path, room: Room, listener: Listener | None = None
) -> dict[str, Any]:
    """What `learner.train` returns, after a start from `base` where there is one that fits.

    "base" is then {"version", "sha256"}, else None; "not_updated" says why a base was not taken.
    """
    told: dict[str, Any] = {"base": None, "not_updated": ""}
    if base is not None:
        if why := begin(learner, base, dataset):
            told["not_updated"] = f"not an update of version {base.version}: {why}"
            room.say(told["not_updated"])
        else:
            told["base"] = {"version": base.version, "sha256": base.sha256}
    return {**learner.train(dataset, work, room, listener), **told}


def begin(learner: Any, base: Base, dataset: Path) -> str:
    """Have the learner's next training start from `base`; else in words why it cannot."""
    if not (base.model.is_dir() and base.dataset.is_dir()):
        return "its run is gone"
    if tree_digest(base.model) != base.sha256:
        return "its model is not what was promoted: the digest differs"
    held_out = ids(dataset, "valid") | ids(dataset, "test")
    if seen := ids(base.dataset, "train") & held_out:
        return f"it learnt {len(seen)} of the rows that are held out now"
    why: str = learner.begin_from(base.model)
    return why


def ids(dataset: Path, split: str) -> set[str]:
    """The ids of a split's rows."""
    return set(read_split(dataset, split).values("id"))


def told_history(result: dict[str, Any]) -> dict[str, Any]:
    """What history.json holds; without seconds, which never repeat: equal models are equal folders."""
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in result["history"]]
    told = {"metrics": result["metrics"], "history": history, "precision": result["machine"]["precision"]}
    return told | ({"base": result["base"]} if result["base"] else {})


def read_history(model: Path) -> dict[str, Any]:
    """What stands beside a trained model; empty where it came without it."""
    path = model / HISTORY
    told: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return told
