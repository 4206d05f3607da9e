"""From one vector per token to one per text. A mask of None says that no row is padded."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real tokens: states [batch, length, width], mask [batch, length] -> [batch, width]."""
    if mask is None:
        return states.mean(1)
    weight = mask.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def masked_max(states: Tensor, mask: Tensor | None) -> Tensor:
    """Maximum over the real tokens: states [batch, length, width] -> [batch, width]."""
    if mask is not None:
        states = states.masked_fill(mask.unsqueeze(-1) == 0, torch.finfo(states.dtype).min)
    return states.amax(1)


def pool(states: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """`mean` or `first` over the tokens: [batch, length, width] -> [batch, width]."""
    return states[:, 0] if how == "first" else masked_mean(states, mask)


def blank_padding(states: Tensor, mask: Tensor | None) -> Tensor:
    """Zero at padded positions, so that a row's answer doesn't depend on its neighbours in the batch."""
    return states if mask is None else states * mask.to(states.dtype).unsqueeze(-1)


def drop_tokens(mask: Tensor | None, like: Tensor, rate: float) -> Tensor:
    """The mask with whole tokens left out at random, never the first (Iyyer et al. 2015, word dropout).

    `like` is the int tensor [batch, length] of tokens; the result has its shape.
    """
    kept = torch.rand(like.shape, device=like.device) >= rate
    kept[:, 0] = True
    return kept.long() if mask is None else mask * kept
