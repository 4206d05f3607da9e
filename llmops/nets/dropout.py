"""Dropout that draws one number for a whole tensor, where the compiled kernels are to be had; elsewhere torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from llmops.nets.kernels import call, kernels

STEPS = 1 << 32
"""Values of the bits that decide about a number."""


class Dropout(nn.Module):
    """In training, each number is 0 with the probability `rate`, else divided by 1 - rate (Srivastava et al. 2014).

    torch draws a random number for each of the tensor's, one after the other, and keeps a mask for the gradient; here
    one drawn seed and a number's place decide, and the gradient asks them again.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, states: Tensor) -> Tensor:
        return drop(states, self.rate) if self.training else states


def drop(states: Tensor, rate: float) -> Tensor:
    """`states` with dropout, in training; the generator of the CPU decides where kernels compute."""
    if not rate:
        return states
    if not fit(states):
        return functional.dropout(states, rate)
    seed = int(torch.randint(-(1 << 63), (1 << 63) - 1, ()))
    dropped: Tensor = Dropped.apply(states, rate, seed)
    return dropped


def fit(states: Tensor) -> bool:
    """Whether the kernels can read these numbers."""
    plain = states.is_cpu and states.dtype == torch.float32 and states.is_contiguous()
    return plain and not torch.compiler.is_compiling() and kernels() is not None


class Dropped(Function):
    """Which numbers stay is a function of seed and place."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return kept(states, rate, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return kept(grads[0].contiguous(), ctx.rate, ctx.seed), None, None


def kept(states: Tensor, rate: float, seed: int) -> Tensor:
    below = round(rate * STEPS)
    out = torch.empty_like(states)
    call("dropout", states.numel(), seed, below, STEPS / (STEPS - below), states, out)
    return out
