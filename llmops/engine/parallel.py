"""Processes that train together: who am I, who holds what, sums over all. One process alone is the simplest case."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

WAIT = timedelta(minutes=30)
"""How long a process waits for the others: one of them may be evaluating or writing."""


@dataclass(frozen=True)
class World:
    """`size` processes; this one is number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def part(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of a batch; empty when the batch has fewer rows than there are processes."""
        return rows[self.rank :: self.size]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def same(self, value: float) -> float:
        """The first process's number, for all."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=wire())
        dist.broadcast(told, 0)
        return float(told)

    def told(self, value: dict[str, float] | None) -> dict[str, float]:
        """The first process's figures, for all; the others give None."""
        if self.size == 1:
            assert value is not None
            return value
        text = json.dumps(value).encode() if self.first else b""
        message = torch.zeros(int(self.same(len(text))), dtype=torch.uint8)
        if self.first:
            message = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        message = message.to(wire())
        dist.broadcast(message, 0)
        found: dict[str, float] = json.loads(bytes(message.tolist()))
        return found

    def wait(self) -> None:
        """Go on when all are here."""
        if self.size > 1:
            dist.barrier()


def world() -> World:
    """The processes that train together: those that `join` brought together, or this one alone."""
    return World(dist.get_rank(), dist.get_world_size()) if joined() else World()


def joined() -> bool:
    """Whether this process belongs to some that torchrun started, if only to itself."""
    return bool(dist.is_initialized())


def join() -> World:
    """Meet the others that torchrun started (it sets RANK, WORLD_SIZE and the address)."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("nccl" if cuda else "gloo", timeout=WAIT)
    return world()


def leave() -> None:
    """Part from the others."""
    if joined():
        dist.destroy_process_group()


def wire() -> torch.device:
    """Where tensors must lie to travel between processes."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def replicated(step: nn.Module) -> nn.Module:
    """`step` with its gradients averaged over all processes during backward (Li et al. 2020); alone, as it is."""
    if world().size == 1:
        return step
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(step, gradient_as_bucket_view=True)


def spread(network: nn.Module, device: torch.device) -> nn.Module:
    """Spread a network's weights over the processes (FSDP, Zhao et al. 2023), layer by layer, in place; gradients are
    averaged. Returns its skeleton, without numbers, for `gathered`."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    skeleton = copy.deepcopy(network, {id(value): on_meta(value) for value in network.parameters()})
    mesh = init_device_mesh(device.type, (world().size,))
    for group in [part for part in network.modules() if isinstance(part, nn.ModuleList)]:
        for layer in group:
            fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return skeleton


def on_meta(value: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(value.detach().to("meta"), requires_grad=value.requires_grad)


def gathered(network: nn.Module, skeleton: nn.Module) -> nn.Module:
    """The whole network on the CPU of the first process, from its parts; the others keep an empty one."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = get_model_state_dict(network, options=options)
    if world().first:
        skeleton.load_state_dict(whole, assign=True)
    return skeleton


def is_spread(value: Any) -> bool:
    """Whether a tensor lies in parts on several processes."""
    return hasattr(value, "to_local")
