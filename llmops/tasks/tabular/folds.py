"""Folds: every training row is answered by a model that never saw it. What a part is, and how it survives a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmops.core.artifact import fsync_folder, json_digest, write_json
from llmops.core.protocols import Room
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import TabularTrainSection
from llmops.tasks.tabular.fitted import Blend, Fitted, rebuilt
from llmops.tasks.tabular.forest import fit_forest
from llmops.tasks.tabular.linear import fit_linear
from llmops.tasks.tabular.trees import fit_trees

SMALL, MIDDLING = 5_000, 20_000
"""Training rows below which there are eight folds, and five."""
Told = Callable[[str], None]


def folds_of(settings: TabularTrainSection, rows: int) -> int:
    """Into how many parts the training rows are cut; 1: validation rows are held against the model instead."""
    if settings.folds == "auto":
        return 8 if rows < SMALL else 5 if rows < MIDDLING else 1
    return min(settings.folds, max(1, rows // 2))


@dataclass(frozen=True)
class Part:
    """One model of the whole: its kind, trained without one fold."""

    kind: str
    fold: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.fold}"


@dataclass
class PartMaker:
    """Fits parts, each kept in a folder of `work` once it is done, so that a kill costs one part at most."""

    settings: TabularTrainSection
    classes: int
    directions: list[int]
    seed: int
    work: Path
    room: Room
    digest: str = ""

    def begin(self, train: Arrays, valid: Arrays) -> None:
        """Take up only parts of this very training."""
        told = [self.settings.plain(), self.classes, self.directions, self.seed]
        sums = [[len(part), float(np.nansum(part.x, dtype=np.float64)), float(part.y.sum())] for part in (train, valid)]
        self.digest = json_digest([told, sums])

    def make(self, part: Part, rows: Arrays, held_out: Arrays, told: Told) -> Fitted:
        """The part, from its folder when it was done before."""
        place = self.work / part.name
        if (kept := self._kept(place)) is not None:
            return kept
        made = self.fit(part, rows, held_out, told)
        self._keep(place, made)
        return made

    def fit(self, part: Part, rows: Arrays, held_out: Arrays, told: Told) -> Fitted:
        seed = self.seed * 1000 + part.fold
        rows, held_out = rows.weighing(), held_out.weighing()  # LightGBM fails on classes that weigh nothing
        if part.kind == "linear":
            return fit_linear(rows, self.classes, self.settings.linear, self.directions)
        if part.kind == "trees":

            def heard(rounds: int, loss: float) -> bool:
                told(f"{rounds} trees, loss {loss:.4f}")
                return False

            return fit_trees(rows, held_out, self.classes, self.settings.trees, self.directions, seed, heard)
        if part.kind == "forest":
            return fit_forest(rows, self.classes, self.settings.forest, self.directions, seed)
        from llmops.tasks.tabular.network import fit_network

        work = self.work / f"{part.name}.fit"
        made: Fitted = fit_network(rows, held_out, self.classes, self.settings.network, seed, work, self.room)
        shutil.rmtree(work, ignore_errors=True)
        return made

    def _kept(self, place: Path) -> Fitted | None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            about = json.loads((place / "about.json").read_bytes())
            if about["digest"] != self.digest:
                return None
            return rebuilt(about, load_file(place / "part.safetensors")).members[0]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None

    def _keep(self, place: Path, made: Fitted) -> None:
        from safetensors.numpy import save_file

        alone = Blend([made], [1.0])
        half = place.with_name(f"{place.name}.tmp")
        for left in (half, place):
            shutil.rmtree(left, ignore_errors=True)
        half.mkdir(parents=True)
        save_file({name: np.ascontiguousarray(v) for name, v in alone.tensors().items()}, half / "part.safetensors")
        write_json(half / "about.json", {"digest": self.digest, **alone.about()})
        half.rename(place)
        fsync_folder(place.parent)
