"""Where to compute, and every random generator set from one seed."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from llmops.core.errors import MachineError


def choose_device(wanted: str) -> torch.device:
    """`auto` takes cuda, then mps, then cpu; MachineError when a wanted device is absent."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    if not there[wanted]:
        raise MachineError(
            f"This machine has no {wanted} that torch can use.", "train.device", "set `train.device: auto`."
        )
    return torch.device(wanted)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights lie."""
    return next(network.parameters()).device


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's generators.

    Not by torch.manual_seed, which keeps a note, with the whole call stack, for every device that was not used yet:
    called at each step of a training, it takes memory that is never freed.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def seed_step(seed: int, step: int, rank: int) -> None:
    """All generators for one step of one process. What a step draws depends on these numbers alone, so that there is no
    generator's state to keep, and a training that carries on, with as many processes or with others, draws the same."""
    first, second = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint32).tolist()
    seed_everything((first << 31) ^ second)
