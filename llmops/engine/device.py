"""Where to compute, and every random generator set from one seed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

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


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of all generators, JSON-able."""
    kind, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }
    if torch.cuda.is_available():
        state["cuda"] = [one.numpy().tobytes().hex() for one in torch.cuda.get_rng_state_all()]
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` gave, also after a trip through JSON."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(from_hex(state["torch"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([from_hex(one) for one in state["cuda"]])


def from_hex(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
