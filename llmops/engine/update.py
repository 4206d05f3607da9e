"""An update: a training that starts from the champion's model where it may; and history.json, which tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmops.core.protocols import Base, Learner, Listener, Room

HISTORY = "history.json"
"""Lies beside a trained model: metrics, epochs, precision, and the "base" of an update."""


def train_from(
    base: Base | None, learner: Learner, dataset: Path, work: Path, room: Room, listener: Listener | None = None
) -> dict[str, Any]:
    """What `learner.train` returns, after a start from `base` where there is one that fits.

    "base" is then {"version", "sha256"}, else None; "not_updated" says why a base was not taken.
    """
    why = begin(learner, base, dataset) if base is not None else ""
    if why and base is not None:
        why = f"not an update of version {base.version}: {why}"
        room.say(why)
    found = learner.train(dataset, work, room, listener)
    begun = base is not None and not why
    return {
        **found,
        "base": {"version": base.version, "sha256": base.sha256} if begun and base is not None else None,
        "not_updated": why,
    }


def begin(learner: Any, base: Base, dataset: Path) -> str:
    """Have the learner's next training start from `base`; else in words why it cannot."""
    if not (base.model.is_dir() and base.dataset.is_dir()):
        return "its run is gone"
    learnt = ids(base.dataset / "train.jsonl")
    held_out = [row for split in ("valid", "test") for row in ids(dataset / f"{split}.jsonl")]
    if seen := sum(row in learnt for row in held_out):
        return f"it learnt {seen} of the rows that are held out now"
    why: str = learner.begin_from(base.model)
    return why


def ids(path: Path) -> set[str]:
    """The ids of a split's rows."""
    return {row["id"] for row in _rows(path)} if path.exists() else set()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        for line in stream:
            yield json.loads(line)


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
