"""float32, or bfloat16 where a machine is good at it; and how fast the machine can be."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch

LIMIT_SIZES = {"cpu": 1024, "cuda": 8192}
"""Matrices that are multiplied to see how fast the machine can be."""
SMALL = 192
HOPELESS = 0.25
"""Where small products in bfloat16 do not even reach this share of float32's rate, large ones are not tried: without
instructions for it a processor may be hundreds of times slower."""
ROUNDS = 5


def prepare_device(wanted: str, device: torch.device) -> None:
    """Let a GPU round float32 products to TF32 (10 bits of mantissa), unless `float32` is asked for."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "ieee" if wanted == "float32" else "tf32"


def computing(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a loss or an answer is computed."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


@lru_cache(maxsize=4)
def bfloat16_gain(kind: str) -> float:
    """How many times as fast bfloat16 products are as float32's, measured in well under a second."""
    device, gain = torch.device(kind), 0.0
    for size in (SMALL, LIMIT_SIZES[kind]):
        gain = matrix_rate(device, torch.bfloat16, size, 2) / matrix_rate(device, torch.float32, size, 2)
        if gain < HOPELESS:
            break
    return gain


@lru_cache(maxsize=8)
def machine_rate(kind: str, precision: str) -> float:
    """Floating point operations a second of a large matrix product on this device, the best of `ROUNDS`."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return matrix_rate(torch.device(kind), dtype, LIMIT_SIZES.get(kind, 1024), ROUNDS)


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int, rounds: int) -> float:
    """Operations a second of a product of two square matrices: 2 size^3 each, the best of `rounds` after one more."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    best = 0.0
    for number in range(rounds + 1):
        synchronise(device)
        began = time.perf_counter()
        left @ right
        synchronise(device)
        if number:
            best = max(best, 2.0 * size**3 / (time.perf_counter() - began))
    return best


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()
