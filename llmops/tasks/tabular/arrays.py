"""A split of a table as arrays: what models see, what they are to say, and how much each row counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError

Floats = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arrays:
    """`x` float32 [rows, features] (NaN: missing); `y` class numbers (int64, -1: a class that training lacks) or
    numbers (float64) [rows]; `weight` float32 [rows]."""

    x: Floats
    y: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.y)

    def take(self, places: Floats) -> Arrays:
        """The rows at these places."""
        return Arrays(self.x[places], self.y[places], self.weight[places])

    def weighing(self) -> Arrays:
        """The rows that weigh something; all of them where none does."""
        there = self.weight > 0
        return self if there.all() or not there.any() else self.take(np.flatnonzero(there))

    def parts(self, parts: int, classes: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The part of each row, int64 [rows], drawn by chance; each part has its share of every class."""
        drawn = np.random.default_rng(seed).permutation(len(self))
        order = drawn[np.argsort(self.y[drawn], kind="stable")] if classes else drawn
        part = np.empty(len(self), np.int64)
        part[order] = np.arange(len(self)) % parts
        return part

    def overall(self, classes: int) -> Floats:
        """The raw answer where nothing is known of a row, float64 [outputs]: the mean, or the log-odds of the classes'
        shares. A class without a row counts as half of one, for that it never comes nobody knows."""
        if not classes:
            return np.array([np.average(self.y, weights=self.weight)])
        counts = np.bincount(self.y, weights=self.weight, minlength=classes)
        logs = np.log((counts + 0.5) / counts.sum())
        return np.asarray(logs if classes > 2 else logs[1:] - logs[:1])

    def joined(self, other: Arrays) -> Arrays:
        """These rows and, after them, others."""
        parts = zip((self.x, self.y, self.weight), (other.x, other.y, other.weight), strict=True)
        return Arrays(*(np.concatenate(pair) for pair in parts))

    def write(self, path: Path) -> None:
        from safetensors.numpy import save_file

        named = {"x": self.x, "y": self.y, "weight": self.weight}
        save_file({name: np.ascontiguousarray(values) for name, values in named.items()}, path)

    @classmethod
    def read(cls, dataset: Path, split: str) -> Arrays:
        """A split of a data set. Raises DataError when it is missing or torn."""
        from safetensors.numpy import load_file

        path = dataset / f"{split}.safetensors"
        try:
            return cls(**load_file(path))
        except Exception as error:  # safetensors raises kinds of its own
            raise DataError(f"the data set cannot be read: {error}", str(path), "run prepare again") from error


def read_labels(dataset: Path) -> list[str]:
    """The classes in the order of the outputs, [negative, positive] of two; none where a number is predicted."""
    path = dataset / "labels.json"
    labels: list[str] = json.loads(path.read_bytes()) if path.exists() else []
    return labels
