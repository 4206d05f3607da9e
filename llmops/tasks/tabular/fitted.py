"""Fitted models as plain arrays: they answer, are saved and are exported without the library that fitted them.

All give raw answers, float64 [rows, outputs]: the log-odds of the second of two classes, one score a class of more, or
a number. Raw answers of several models may be averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np

Floats = np.ndarray[Any, Any]
CELLS = 4_000_000
"""Comparisons of rows with trees that are held at once."""


class Fitted(Protocol):
    """A model that answers."""

    kind: ClassVar[str]

    def raw(self, x: Floats) -> Floats:
        """Raw answers to float32 [rows, features]."""

    def tensors(self) -> dict[str, Floats]:
        """All numbers of the model, by name."""


@dataclass(frozen=True)
class LinearFitted:
    """weights [2 * features, outputs]: of standardised values (missing ones are at the mean), then of whether a value
    is missing; mean and scale [features]; bias [outputs]."""

    kind: ClassVar[str] = "linear"
    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats

    def raw(self, x: Floats) -> Floats:
        return np.asarray(standardised(x, self.mean, self.scale) @ self.weights + self.bias)

    def tensors(self) -> dict[str, Floats]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def standardised(x: Floats, mean: Floats, scale: Floats) -> Floats:
    """float64 [rows, 2 * features]: values around 0, and 1 where one is missing."""
    missing = np.isnan(x)
    values = np.where(missing, 0.0, (x - mean) / scale)
    return np.concatenate([values, missing], axis=1)


@dataclass(frozen=True)
class TreesFitted:
    """Trees end to end. Nodes: feature (-1: a leaf), threshold float32 (x <= threshold goes left), left and right (node
    numbers), missing_left, value (a leaf's) and cover (training rows). Trees: root (node number) and output. base
    [outputs] is added to the sum."""

    kind: ClassVar[str] = "trees"
    feature: Floats
    threshold: Floats
    left: Floats
    right: Floats
    missing_left: Floats
    value: Floats
    cover: Floats
    root: Floats
    output: Floats
    base: Floats

    def raw(self, x: Floats) -> Floats:
        """Walks all rows down all trees together, a level at a time."""
        answers = np.empty((len(x), len(self.base)))
        step = max(1, CELLS // max(1, len(self.root)))
        for start in range(0, len(x), step):
            values = self.value[self._leaves(x[start : start + step])]
            for number, base in enumerate(self.base):
                answers[start : start + step, number] = base + values[:, self.output == number].sum(axis=1)
        return answers

    def _leaves(self, x: Floats) -> Floats:
        """The leaf of each row in each tree, int64 [rows, trees]."""
        at = np.broadcast_to(self.root, (len(x), len(self.root))).copy()
        rows = np.arange(len(x))[:, None]
        while True:
            feature = self.feature[at]
            inner = feature >= 0
            if not inner.any():
                return at
            values = x[rows, np.maximum(feature, 0)]
            left = np.where(np.isnan(values), self.missing_left[at], values <= self.threshold[at])
            at = np.where(inner, np.where(left, self.left[at], self.right[at]), at)

    def tensors(self) -> dict[str, Floats]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Blend:
    """Members with their weights: raw answers are averaged by them."""

    kind: ClassVar[str] = "blend"
    members: Sequence[Fitted]
    weights: Sequence[float]

    def raw(self, x: Floats) -> Floats:
        return np.asarray(
            sum(weight * member.raw(x) for member, weight in zip(self.members, self.weights, strict=True))
        )

    def tensors(self) -> dict[str, Floats]:
        named = {f"{n}.{name}": values for n, one in enumerate(self.members) for name, values in one.tensors().items()}
        return {"weights": np.array(self.weights), **named}

    def about(self) -> dict[str, Any]:
        """The members' kinds, for `rebuilt`, and what networks need beside."""
        return {"members": [{"kind": one.kind, **getattr(one, "about", dict)()} for one in self.members]}


def rebuilt(about: Mapping[str, Any], tensors: Mapping[str, Floats]) -> Blend:
    """The blend of `Blend.about` and `Blend.tensors`."""
    members: list[Fitted] = []
    for number, told in enumerate(about["members"]):
        own = {name.partition(".")[2]: v for name, v in tensors.items() if name.startswith(f"{number}.")}
        if told["kind"] == "network":
            from llmops.tasks.tabular.network import NetworkFitted

            members.append(NetworkFitted.rebuilt(told, own))
        else:
            members.append({"linear": LinearFitted, "trees": TreesFitted}[told["kind"]](**own))
    return Blend(members, [float(weight) for weight in tensors["weights"]])
