"""Prototypes: a head that begins as the mean vector of each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def begin_as_prototypes(head: nn.Linear, vectors: Tensor, labels: Tensor, temperature: float) -> None:
    """Set a head so that its logits are cosines to the classes' means, divided by `temperature` (Snell et al. 2017;
    Gidaris and Komodakis 2018).

    vectors float32 [rows, hidden], labels int64 [rows], -1 for rows of no class. A class without rows keeps its
    weights.
    """
    inside = labels >= 0
    known, unit = labels[inside], functional.normalize(vectors[inside], dim=-1)
    sums = torch.zeros(head.weight.shape, device=unit.device).index_add_(0, known, unit)
    found = torch.bincount(known, minlength=len(sums)) > 0
    with torch.no_grad():
        head.weight[found] = (functional.normalize(sums, dim=-1) / temperature)[found].to(head.weight.device)
        head.bias[found] = 0.0
