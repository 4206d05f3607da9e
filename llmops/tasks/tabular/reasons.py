"""Reasons: how much each column moved a raw answer, so that the effects add up to it; numpy alone.

Trees: Shapley values, exact (treereasons.py). Linear models: slope times the distance from the training mean, exact.
Networks: what their answer changes by when a column is put at its training mean (occlusion), with the rest shared out
in proportion, so that the sum is right; the single effects are approximate. The effects of a blend are the weighted
sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.tasks.tabular.features import Plan
from llmops.tasks.tabular.fitted import Blend, TreesFitted
from llmops.tasks.tabular.parts import LinearPart, parts_of
from llmops.tasks.tabular.treereasons import TreeReasons

Floats = np.ndarray[Any, Any]
FILE = "reasons.safetensors"
SMALL = {"cover": np.float32, "missing_left": np.uint8}


def write_reasons(model: Blend, plan: Plan, centre: Floats, folder: Path) -> list[Path]:
    """Write what `Reasons.read` needs. `centre` [features]: the training means."""
    from safetensors.numpy import save_file

    parts = parts_of(model, len(plan.names))
    middle = centre.astype(np.float32)[None]
    tensors: dict[str, Floats] = {"centre": middle[0], "outputs": np.array([parts.outputs])}
    if parts.trees is not None:
        named = parts.trees.tensors().items()
        tensors |= {f"trees.{name}": values.astype(SMALL.get(name, values.dtype)) for name, values in named}
    if parts.linear is not None:
        linear = parts.linear
        tensors |= {"linear.slope": linear.slope, "linear.absent": linear.absent, "linear.bias": linear.bias}
    if parts.networks:
        tensors["networks"] = np.sum([weight * one.raw(middle)[0] for weight, one in parts.networks], axis=0)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / FILE)
    return [folder / FILE]


class Reasons:
    """What moves the answers of one model."""

    def __init__(self, plan: Plan, tensors: Mapping[str, Floats]) -> None:
        self.columns, self.column_of = plan.columns, plan.column_of
        self.centre: Floats = tensors["centre"]
        self.outputs = int(tensors["outputs"][0])
        self.networks = tensors.get("networks")
        """What the networks say to the training means, [outputs]; None: there are none, and all effects are exact."""
        self.linear = LinearPart(**_below("linear.", tensors)) if "linear.slope" in tensors else None
        trees = TreesFitted(**_below("trees.", tensors)) if "trees.root" in tensors else None
        of_trees = [TreeReasons(trees, number, self.column_of) for number in range(self.outputs)] if trees else []
        self.trees: list[TreeReasons] = of_trees

    @classmethod
    def read(cls, folder: Path, plan: Plan) -> Reasons:
        """What `write_reasons` wrote. Raises DataError."""
        from safetensors.numpy import load_file

        try:
            return cls(plan, load_file(folder / FILE))
        except Exception as error:  # safetensors raises kinds of its own
            what = f"what reasons are worked out from cannot be read: {error!r}"
            raise DataError(what, str(folder / FILE), "make the bundle again: llmops compress CONFIG") from error

    @cached_property
    def base(self) -> Floats:
        """What the model answers to an average row, float64 [outputs]: effects are counted from here."""
        total = np.zeros(self.outputs)
        if self.trees:
            total += [one.base for one in self.trees]
        if self.linear is not None:
            total += self.linear.raw(self.centre[None])[0]
        return total if self.networks is None else total + self.networks

    def effects(self, x: Floats, outputs: Floats) -> Floats:
        """float64 [rows, columns] of float32 [rows, features] on one output a row (`outputs`, int64 [rows]); networks'
        effects are added by `of_networks`."""
        made = np.zeros((len(x), len(self.columns)))
        for number in np.unique(outputs) if self.trees else ():
            mine = outputs == number
            made[mine] += self.trees[number].effects(x[mine])
        return made if self.linear is None else made + self._of_linear(x, outputs)

    def _of_linear(self, x: Floats, outputs: Floats) -> Floats:
        assert self.linear is not None
        missing = np.isnan(x)
        slope, absent = self.linear.slope.T[outputs], self.linear.absent.T[outputs]
        moved = np.where(missing, 0.0, x) * slope + missing * absent - self.centre * slope
        return np.stack([np.bincount(self.column_of, row, len(self.columns)) for row in moved])

    def occluded(self, x: Floats) -> Floats:
        """float32 [rows * (1 + columns), features]: each row, and then once for each column with that at its mean."""
        hidden = self.column_of[None] == np.arange(-1, len(self.columns))[:, None]
        return np.where(hidden[None], self.centre, x[:, None, :]).reshape(-1, x.shape[1]).astype(np.float32)

    def of_networks(self, said: Floats, occluded: Floats, outputs: Floats) -> Floats:
        """Effects of the networks float64 [rows, columns]: `said` is their share of the raw answers [rows, outputs],
        and `occluded` [rows * (1 + columns), outputs] what the heaviest of them says to `occluded`'s rows."""
        assert self.networks is not None
        rows = np.arange(len(said))
        heaviest = occluded.reshape(len(said), -1, self.outputs)[rows, :, outputs]
        changed = heaviest[:, :1] - heaviest[:, 1:]
        rest = said[rows, outputs] - self.networks[outputs] - changed.sum(axis=1)
        sizes = np.abs(changed) + 1e-12
        return np.asarray(changed + rest[:, None] * sizes / sizes.sum(axis=1, keepdims=True))


def _below(prefix: str, tensors: Mapping[str, Floats]) -> dict[str, Any]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
