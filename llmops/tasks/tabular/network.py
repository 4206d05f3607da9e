"""A neural network as a member of the blend: trained by the engine, answers, is saved and exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.core.protocols import Room
from llmops.engine.batching import Rowwise
from llmops.engine.device import choose_device, seed_everything
from llmops.engine.fit import fit
from llmops.nets.export import OPSET, quiet
from llmops.nets.tabular import Inputs, TabularNetwork
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import NetworkSection

Floats = np.ndarray[Any, Any]
CHUNK = 4096
"""Rows that are answered together."""
PIECES = 16


@dataclass(frozen=True)
class NetworkFitted:
    """A trained network; `shift` and `unit` [outputs] put its answers into the target's units."""

    kind: ClassVar[str] = "network"
    network: TabularNetwork
    architecture: dict[str, Any]
    shift: float
    unit: float

    @property
    def outputs(self) -> int:
        return int(self.architecture["outputs"])

    def raw(self, x: Floats) -> Floats:
        return answers(self.network, x).astype(np.float64) * self.unit + self.shift

    def tensors(self) -> dict[str, Floats]:
        """All numbers of the network, by name."""
        return {name: values.numpy() for name, values in self.network.state_dict().items()}

    def about(self) -> dict[str, Any]:
        """What `rebuilt` needs beside the tensors."""
        return {"architecture": self.architecture, "shift": self.shift, "unit": self.unit}

    @classmethod
    def rebuilt(cls, about: Mapping[str, Any], tensors: Mapping[str, Floats]) -> NetworkFitted:
        """The network of `about` and `tensors`."""
        own = {name.removeprefix("encoding."): values for name, values in tensors.items()}
        network = TabularNetwork(
            Inputs(**{part.name: own[part.name] for part in fields(Inputs)}), **about["architecture"]
        )
        network.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in tensors.items()})
        return cls(network.eval(), dict(about["architecture"]), about["shift"], about["unit"])

    def onnx(self, path: Path) -> None:
        """Write it as ONNX: x float32 [rows, features] -> float32 [rows, outputs]."""
        rows = torch.export.Dim("rows")
        sample = torch.zeros(3, self.network.features)
        with quiet(), torch.no_grad():
            torch.onnx.export(
                Averaged(self).eval(), (sample,), path, input_names=["x"], output_names=["said"],
                dynamic_shapes={"x": {0: rows}}, opset_version=OPSET, external_data=False, dynamo=True, verbose=False,
            )  # fmt: skip


def answers(network: TabularNetwork, x: Floats) -> Floats:
    """The members' mean, float32 [rows, outputs]."""
    device = network.bias.device
    network.eval()
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(x[start : start + CHUNK]).to(device)).mean(0).cpu().numpy()
            for start in range(0, len(x), CHUNK)
        ]
    return np.concatenate(parts) if parts else np.zeros((0, network.bias.shape[2]), np.float32)


def losses(said: Tensor, y: Tensor, classes: int) -> Tensor:
    """Each row's loss, of [..., rows, outputs] against classes or standardised numbers [rows]."""
    if not classes:
        return (said[..., 0] - y) ** 2
    if classes == 2:
        return functional.binary_cross_entropy_with_logits(said[..., 0], y.expand(said.shape[:-1]), reduction="none")
    return -functional.log_softmax(said, -1).gather(-1, y.expand(said.shape[:-1])[..., None])[..., 0]


class TableProblem(Rowwise):
    """What the engine trains: every member by its own loss. Early stopping goes by the loss of their mean."""

    metric, higher = "loss", False

    def __init__(
        self, network: TabularNetwork, train: Arrays, valid: Arrays, classes: int, rate: float, device: torch.device
    ) -> None:
        self.network, self.classes, self.head_rate = network.to(device), classes, rate
        self.valid = valid
        self.x = torch.from_numpy(train.x).to(device)
        self.y, self.valid_y = (self.truth(part).to(device) for part in (train, valid))
        self.weights = train.weight.astype(np.float64)
        self.w = torch.from_numpy(train.weight).to(device)

    def truth(self, rows: Arrays) -> Tensor:
        kind = torch.int64 if self.classes > 2 else torch.float32
        return torch.from_numpy(rows.y).to(kind)

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self.weights), np.int64)

    def weight(self, rows: np.ndarray) -> float:
        return float(self.weights[rows].sum())

    def step_weight(self, rows: np.ndarray, steps: int) -> float:
        return float(self.weights.sum()) / steps

    def loss(self, batch: np.ndarray) -> Tensor:
        rows = torch.from_numpy(batch).to(self.x.device)
        each = losses(self.network(self.x[rows]), self.y[rows], self.classes).mean(0)
        weight = self.w[rows]
        return (each * weight).sum() / weight.sum().clamp(min=1e-9)

    def evaluate(self) -> dict[str, float]:
        said = torch.from_numpy(answers(self.network, self.valid.x))
        each = losses(said, self.valid_y.cpu(), self.classes).double().numpy()
        return {"loss": float(np.average(each, weights=self.valid.weight))}


def fit_network(
    rows: Arrays, held_out: Arrays, classes: int, settings: NetworkSection, seed: int, work: Path, room: Room
) -> NetworkFitted:
    """Train on `rows`, stop by `held_out`; a training that was killed carries on from `work`."""
    shift, unit = 0.0, 1.0
    if not classes:
        shift = float(np.average(rows.y, weights=rows.weight))
        unit = float(np.sqrt(np.average((rows.y - shift) ** 2, weights=rows.weight))) or 1.0
        rows, held_out = (Arrays(part.x, (part.y - shift) / unit, part.weight) for part in (rows, held_out))
    seed_everything(seed)
    architecture = {"outputs": classes if classes > 2 else 1, **shape_of(settings)}
    network = TabularNetwork(Inputs.fitted(rows.x, PIECES), **architecture)
    device = choose_device(settings.device)
    problem = TableProblem(network, rows, held_out, classes, settings.learning_rate, device)
    fit(problem, settings.model_copy(update={"precision": "float32"}), seed, work, room)
    return NetworkFitted(network.cpu().eval(), architecture, shift, unit)


def shape_of(settings: NetworkSection) -> dict[str, Any]:
    """The part of the settings that a network is built by."""
    return {name: getattr(settings, name) for name in ("width", "layers", "members", "dropout")}


class Averaged(nn.Module):
    """What is exported: the members' mean in the target's units."""

    def __init__(self, fitted: NetworkFitted) -> None:
        super().__init__()
        self.network, self.unit, self.shift = fitted.network, fitted.unit, fitted.shift

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network(x).mean(0) * self.unit + self.shift)
