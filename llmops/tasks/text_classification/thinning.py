"""A data set with a part of its training rows, for a first look at settings. No torch here."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np

from llmops.core.run import link_or_copy
from llmops.engine.ragged import Ragged, taken

LEFT_OUT = ("train.safetensors",)
FEWEST = 1
"""Rows of a class at least."""


def thinned(dataset: Path, share: float, folder: Path) -> bool:
    """Make `folder` a data set like `dataset` with a `share` of its training rows: of each class the same share, at
    least one row (where a text may have several labels, of each set of labels). The same rows each time."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(dataset, folder, copy_function=link_or_copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    train = Ragged.read(dataset / "train.safetensors")
    chance = np.random.Generator(np.random.PCG64(0))
    _, strata = np.unique(train.labels, axis=0, return_inverse=True)
    order = chance.permutation(len(train))
    kept = []
    for stratum in np.unique(strata):
        rows = order[strata.ravel()[order] == stratum]
        kept.append(rows[: max(FEWEST, math.floor(share * len(rows) + 0.5))])
    taken(train, np.sort(np.concatenate(kept))).write(folder / "train.safetensors")
    return True
