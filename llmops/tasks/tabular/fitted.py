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
CHUNK = 16_384
"""Rows that are answered together: what is held of them while they go down the trees fits a processor's cache."""


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
        parts = (x[start : start + CHUNK] for start in range(0, max(1, len(x)), CHUNK))
        return np.concatenate([standardised(part, self.mean, self.scale) @ self.weights + self.bias for part in parts])

    def tensors(self) -> dict[str, Floats]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def standardised(x: Floats, mean: Floats, scale: Floats) -> Floats:
    """float64 [rows, 2 * features]: values around 0, and 1 where one is missing."""
    missing = np.isnan(x)
    values = np.where(missing, 0.0, (x - mean) / scale)
    return np.concatenate([values, missing], axis=1)


@dataclass(frozen=True)
class TreesFitted:
    """Trees end to end, boosted or a forest. Nodes: feature (-1: a leaf), threshold float32 (x <= threshold goes left),
    left and right (node numbers), missing_left, value (a leaf's) and cover (training rows). Trees: root (node number)
    and output. A tree's nodes stand together, each before those below it. base [outputs] is added to the sum."""

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
        answers = np.tile(np.asarray(self.base, np.float64), (len(x), 1))
        ends = [*self.root[1:].tolist(), len(self.feature)]
        trees = list(zip(self.root.tolist(), ends, self.output.tolist(), strict=True))
        for start in range(0, len(x), CHUNK):
            columns = np.ascontiguousarray(x[start : start + CHUNK].T)
            missing = np.isnan(columns)
            for root, end, output in trees:
                leaf = self._leaves(root, end, columns, missing)
                answers[start : start + CHUNK, output] += self.value[root:end][leaf]
        return answers

    def _leaves(self, root: int, end: int, columns: Floats, missing: Floats) -> Floats:
        """Each row's leaf in one tree, as a place in its nodes. columns [features, rows]: whole columns are compared
        with each node's threshold, which is many times quicker than walking rows down."""
        leaf = np.zeros(columns.shape[1], np.int32)
        here = {root: np.ones(columns.shape[1], bool)}
        for node in range(root, end):
            rows = here.pop(node)
            if (feature := self.feature[node]) < 0:
                leaf += rows * np.int32(node - root)
                continue
            goes = columns[feature] <= self.threshold[node]
            if self.missing_left[node]:
                goes |= missing[feature]
            goes &= rows
            here[self.left[node]], here[self.right[node]] = goes, rows ^ goes
        return leaf

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
