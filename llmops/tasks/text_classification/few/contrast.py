"""Contrast: rows of a class drawn together and others pushed apart, and batches in which a class meets itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def contrastive_loss(unit: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss (Khosla et al. 2020, L_out) of vectors of length one [rows, hidden] with their
    labels int64 [rows]: a scalar, the mean over rows that meet another of their class; 0 where none does."""
    alone = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    with torch.autocast(unit.device.type, enabled=False):  # cosines divided by so little need their digits
        near = (unit @ unit.T / temperature).masked_fill(alone, torch.finfo(unit.dtype).min)
    same = (labels[:, None] == labels[None]) & ~alone
    partners = same.sum(1)
    told = near - near.logsumexp(1, keepdim=True)
    each = -(told * same).sum(1) / partners.clamp(min=1)
    met = partners > 0
    return (each * met).sum() / met.sum().clamp(min=1)


def plan_pairs(labels: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, as arrays of row numbers: each row once, beside another of its class where there is
    one. The same for the same arguments. labels int64 [rows]."""
    chance = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = chance.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    pairs = [rows[at : at + 2] for rows in np.split(order, edges) for at in range(0, len(rows), 2)]
    mixed = np.concatenate([pairs[place] for place in chance.permutation(len(pairs))])
    return [np.asarray(part) for part in np.array_split(mixed, batches(len(labels), batch_size))]


def batches(rows: int, batch_size: int) -> int:
    """How many `plan_pairs` makes."""
    return max(1, -(-rows // batch_size))
