"""torch.compile for a network in training, and back."""

from __future__ import annotations

import shutil

import torch
from torch import nn

from llmops.core.errors import MachineError


def compiled(network: nn.Module, device: torch.device) -> None:
    """Compile the network's forward and backward, in place, for batches of any size. MachineError where that needs a
    C++ compiler that isn't there."""
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise MachineError("torch.compile needs a C++ compiler, and there is none.", "train.compile", "set it to false")
    network.compile(dynamic=True)


def plain(network: nn.Module) -> None:
    """The network as it was before `compiled`."""
    network._compiled_call_impl = None
