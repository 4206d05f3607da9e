"""TabularNetwork: a neural network for rows of numbers with gaps, many networks in one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from llmops.nets.dropout import Dropout

SAMPLE = 100_000
"""Rows that quantiles are taken of; more make them hardly better."""
REACH = 3.0
"""Standardised values are clipped smoothly, to stay within this."""


@dataclass(frozen=True)
class Inputs:
    """How a row becomes what the network computes with; numpy arrays, fitted on training rows.

    centre and scale float32 [features]; gaps int64 [..]: features that have missing values; of int64, left and size
    float32 [pieces]: the feature of each piece, where the piece begins and how long it is.
    """

    centre: np.ndarray
    scale: np.ndarray
    gaps: np.ndarray
    of: np.ndarray
    left: np.ndarray
    size: np.ndarray

    @classmethod
    def fitted(cls, x: np.ndarray, pieces: int) -> Inputs:
        """Of float32 [rows, features], NaN where a value is missing.

        Robust scaling (RealMLP, Holzmueller et al. 2024): the median is 0 and the quartiles are 1 apart; where they are
        the same, the range is 2. A feature of more than two values is cut at its quantiles into up to `pieces` pieces
        (piecewise linear encoding, Gorishniy et al. 2022).
        """
        sample = x[np.linspace(0, len(x) - 1, SAMPLE).astype(np.int64)] if len(x) > SAMPLE else x
        centre, scale = np.zeros(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
        cuts: list[tuple[int, np.ndarray]] = []
        for feature, column in enumerate(sample.T):
            values = column[~np.isnan(column)].astype(np.float64)
            if not len(values):
                continue
            low, first, middle, third, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
            width = third - first or (high - low) / 2
            centre[feature], scale[feature] = middle, 1 / width if width else 0.0
            edges = np.unique(np.quantile(values, np.linspace(0, 1, pieces + 1)).astype(np.float32))
            if len(edges) > 2:
                cuts.append((feature, edges))
        return cls(
            centre,
            scale,
            np.flatnonzero(np.isnan(x).any(axis=0)),
            np.concatenate([np.zeros(0, np.int64), *(np.full(len(edges) - 1, feature) for feature, edges in cuts)]),
            np.concatenate([np.zeros(0, np.float32), *(edges[:-1] for _, edges in cuts)]),
            np.concatenate([np.zeros(0, np.float32), *(np.diff(edges) for _, edges in cuts)]),
        )


class Encoding(nn.Module):
    """What `Inputs` say, as a part of the network: float32 [batch, features] with NaN -> [batch, width]."""

    centre: Tensor
    scale: Tensor
    gaps: Tensor
    of: Tensor
    left: Tensor
    size: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        for field in fields(inputs):
            self.register_buffer(field.name, torch.from_numpy(np.array(getattr(inputs, field.name))))

    @property
    def width(self) -> int:
        return len(self.centre) + len(self.gaps) + len(self.of)

    def forward(self, x: Tensor) -> Tensor:
        missing = torch.isnan(x)
        there = torch.where(missing, self.centre, x)
        z = (there - self.centre) * self.scale
        parts = [z / torch.sqrt(1 + (z / REACH) ** 2)]
        if len(self.gaps):
            parts.append(missing[:, self.gaps].to(z.dtype))
        if len(self.of):
            parts.append(((there[:, self.of] - self.left) / self.size).clamp(0, 1))
        return torch.cat(parts, 1)


class Layer(nn.Module):
    """A linear layer that all members share; each has its own scale and bias of what comes out, then ReLU.

    A scale of what goes in, which TabM's layers have too, would be the same once more: ReLU(s a + b) r = ReLU(r s a +
    r b) where r > 0.
    """

    def __init__(self, inside: int, width: int, members: int, dropout: float) -> None:
        super().__init__()
        self.shared = nn.Linear(inside, width, bias=False)
        self.scale = nn.Parameter(torch.ones(members, width))
        bound = inside**-0.5
        self.bias = nn.Parameter(torch.empty(members, width).uniform_(-bound, bound))
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """[batch, members or 1, inside] -> [batch, members, width]."""
        return self.dropout(torch.relu(torch.addcmul(self.bias, self.shared(states), self.scale)))


class TabularNetwork(nn.Module):
    """`members` multilayer perceptrons that share their large matrices (TabM, Gorishniy et al. 2025)."""

    def __init__(self, inputs: Inputs, outputs: int, width: int, layers: int, members: int, dropout: float) -> None:
        super().__init__()
        self.encoding = Encoding(inputs)
        inside = self.encoding.width
        signs = torch.randint(0, 2, (members, inside)) * 2.0 - 1.0
        self.signs = nn.Parameter(signs)
        sizes = [inside, *[width] * layers]
        self.layers = nn.ModuleList(Layer(*pair, members, dropout) for pair in pairwise(sizes))
        bound = width**-0.5
        self.weights = nn.Parameter(torch.empty(members, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    @property
    def features(self) -> int:
        """Numbers of a row."""
        return len(self.encoding.centre)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [batch, features], NaN where missing -> each member's answers [members, batch, outputs]."""
        states = self.encoding(x)[:, None] * self.signs
        for layer in self.layers:
            states = layer(states)
        return states.transpose(0, 1) @ self.weights + self.bias
