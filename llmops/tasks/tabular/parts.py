"""A blend taken apart by kind, each kind made one: all its trees, all its linear models as one, its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.tasks.tabular.fitted import Blend, LinearFitted, TreesFitted

Floats = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LinearPart:
    """raw = x @ slope + missing @ absent + bias, where a missing x counts as 0; slope and absent float64 [features,
    outputs], bias [outputs]."""

    slope: Floats
    absent: Floats
    bias: Floats

    @classmethod
    def nothing(cls, features: int, outputs: int) -> LinearPart:
        """One that answers 0."""
        return cls(np.zeros((features, outputs)), np.zeros((features, outputs)), np.zeros(outputs))

    def raw(self, x: Floats) -> Floats:
        """Raw answers float64 [rows, outputs]."""
        missing = np.isnan(x)
        return np.asarray(np.where(missing, 0.0, x.astype(np.float64)) @ self.slope + missing @ self.absent + self.bias)


@dataclass(frozen=True)
class Parts:
    """What the raw answers of a blend are the sum of; each part holds its weight already, but for the networks."""

    outputs: int
    trees: TreesFitted | None
    linear: LinearPart | None
    networks: list[tuple[float, Any]]
    """Weight and fitted network, the heaviest first."""


def parts_of(model: Blend, features: int) -> Parts:
    """The parts of a blend of so many features; members without weight are left out."""
    weighed = [(float(weight), one) for one, weight in zip(model.members, model.weights, strict=True) if weight]
    trees = [(weight, one) for weight, one in weighed if isinstance(one, TreesFitted)]
    linear = [(weight, one) for weight, one in weighed if isinstance(one, LinearFitted)]
    networks = [(weight, one) for weight, one in weighed if not isinstance(one, TreesFitted | LinearFitted)]
    return Parts(
        outputs=model.raw(np.zeros((1, features), np.float32)).shape[1],
        trees=_joined(trees) if trees else None,
        linear=_summed(linear) if linear else None,
        networks=sorted(networks, key=lambda pair: -pair[0]),
    )


def _joined(members: Sequence[tuple[float, TreesFitted]]) -> TreesFitted:
    """Trees of several models end to end, their leaves' values weighed."""
    before = np.cumsum([0, *(len(one.feature) for _, one in members)])

    def placed(name: str) -> Floats:
        return np.concatenate([getattr(one, name) + at for (_, one), at in zip(members, before[:-1], strict=True)])

    def plain(name: str) -> Floats:
        return np.concatenate([getattr(one, name) for _, one in members])

    return TreesFitted(
        feature=plain("feature"),
        threshold=plain("threshold"),
        left=placed("left"),
        right=placed("right"),
        missing_left=plain("missing_left"),
        value=np.concatenate([weight * one.value for weight, one in members]),
        cover=plain("cover"),
        root=placed("root"),
        output=plain("output"),
        base=np.sum([weight * one.base for weight, one in members], axis=0),
    )


def _summed(members: Sequence[tuple[float, LinearFitted]]) -> LinearPart:
    """Linear models, each with its own mean and scale, as one on plain features."""
    slope, absent, bias = (np.zeros(1) for _ in range(3))
    for weight, one in members:
        features = len(one.mean)
        steep = weight * one.weights[:features] / one.scale[:, None]
        shift = one.mean[:, None] * steep
        slope = slope + steep
        absent = absent + weight * one.weights[features:] + shift
        bias = bias + weight * one.bias - shift.sum(axis=0)
    return LinearPart(slope, absent, bias)
