"""Structured pruning: whole attention heads and feed-forward neurons leave an encoder, and its matrices shrink."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmops.nets.slicing import layer_list

FAMILIES = (
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
     "intermediate.dense", "output.dense"),
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
)  # fmt: skip
"""How BERT and its kin, and DistilBERT, call a layer's parts: query, key, value, the product after them, and the two of
the feed-forward part."""
MULTIPLE = 16
"""Neurons of a layer stay in such numbers: matrix products like them."""


@dataclass
class Layer:
    """The parts of one layer. Head `h` has the rows `h * width` to `(h + 1) * width` of `inward` and these columns of
    `outward`; neuron `n` has row `n` of `up` and column `n` of `down`."""

    inward: list[nn.Linear]
    outward: nn.Linear
    up: nn.Linear
    down: nn.Linear
    width: int

    @property
    def heads(self) -> int:
        return len(self.inward[0].weight) // self.width

    def scores(self) -> tuple[Tensor, Tensor]:
        """First-order Taylor importance of each head and each neuron by the gradients that stand in the weights: how
        much the loss would change without it, squared (Molchanov et al. 2019)."""
        by_row = sum(_rows(one) for one in self.inward) + _columns(self.outward)
        return by_row.view(-1, self.width).sum(1) ** 2, (_rows(self.up) + _columns(self.down)) ** 2

    def keep(self, heads: Tensor, neurons: Tensor) -> None:
        """Shrink to these heads and neurons (their numbers, sorted)."""
        rows = (heads[:, None] * self.width + torch.arange(self.width)).flatten()
        for one in self.inward:
            _keep(one, rows, 0)
        _keep(self.outward, rows, 1)
        _keep(self.up, neurons, 0)
        _keep(self.down, neurons, 1)


def layers_of(network: nn.Module, heads: int) -> list[Layer]:
    """The layers of an encoder that has `heads` attention heads in each. Raises ValueError for one of other parts."""
    found = layer_list(network)
    every = found[2] if found else []
    for names in FAMILIES:
        try:
            parts = [[layer.get_submodule(name) for name in names] for layer in every]
        except AttributeError:
            continue
        if parts:
            return [_layer(one, heads) for one in parts]
    raise ValueError("it has no layers of attention heads and neurons that are known here")


def _layer(parts: list[Any], heads: int) -> Layer:
    query, key, value, outward, up, down = parts
    return Layer([query, key, value], outward, up, down, query.out_features // heads)


def importance(layers: list[Layer], losses: Iterable[Callable[[], Tensor]], network: nn.Module) -> list[list[Tensor]]:
    """[heads, neurons] of each layer: their scores, summed over the losses of some batches. No weight is changed."""
    sums: list[list[Tensor]] = [[torch.zeros(layer.heads), torch.zeros(len(layer.up.weight))] for layer in layers]
    for loss in losses:
        network.zero_grad(set_to_none=True)
        loss().backward()
        for total, layer in zip(sums, layers, strict=True):
            for place, score in enumerate(layer.scores()):
                total[place] += score.cpu()
    network.zero_grad(set_to_none=True)
    return sums


def shrink(layers: list[Layer], scores: list[list[Tensor]], heads: float, neurons: float) -> None:
    """Leave out the shares `heads` and `neurons` of all heads and neurons, those of the lowest scores; a layer's scores
    are divided by their length first, so that no layer goes as a whole. Each keeps a head and `MULTIPLE` neurons."""
    stay = [_best([one[place] for one in scores], share, least)
            for place, share, least in ((0, heads, 1), (1, neurons, MULTIPLE))]  # fmt: skip
    for layer, *kept in zip(layers, *stay, strict=True):
        layer.keep(*kept)


def thin(network: nn.Module, share: float) -> None:
    """Set the smallest weights of each product to 0 (magnitude pruning, Han et al. 2015), `share` of them."""
    for one in network.modules():
        if isinstance(one, nn.Linear) and share:
            size = one.weight.detach().abs().flatten()
            cut = size.kthvalue(max(round(share * len(size)), 1)).values
            with torch.no_grad():
                one.weight.mul_(one.weight.abs() > cut)


def _best(scores: list[Tensor], share: float, multiple: int) -> list[Tensor]:
    """Of each layer the numbers that stay, in whole multiples."""
    unit = [one / one.norm().clamp_min(1e-12) for one in scores]
    every = torch.cat(unit).sort().values
    gone = round(share * len(every))
    cut = every[gone - 1] if gone else torch.tensor(-1.0)
    stay = []
    for one in unit:
        wanted = max(int((one > cut).sum()), 1)
        count = min(-(-wanted // multiple) * multiple, len(one))
        stay.append(one.topk(count).indices.sort().values)
    return stay


def _keep(linear: nn.Linear, places: Tensor, axis: int) -> None:
    """Only these rows (0) or columns (1) of a layer's matrix."""
    at = places.to(linear.weight.device)
    linear.weight = nn.Parameter(linear.weight.detach().index_select(axis, at).clone())
    if axis == 0:
        linear.out_features = len(places)
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias.detach().index_select(0, at).clone())
    else:
        linear.in_features = len(places)


def _rows(linear: nn.Linear) -> Tensor:
    found = (linear.weight * _grad(linear.weight)).sum(1)
    return found if linear.bias is None else found + linear.bias * _grad(linear.bias)


def _columns(linear: nn.Linear) -> Tensor:
    return (linear.weight * _grad(linear.weight)).sum(0)


def _grad(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad.detach()
