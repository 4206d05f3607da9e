"""AdamW with its parameter groups, the learning rate's course, the optimiser's state as tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from llmops.engine.parallel import is_spread

HEAD = "head."


def undecayed(network: nn.Module) -> set[str]:
    """Names of parameters without weight decay: biases, norms, embeddings."""
    embeddings = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.Embedding)}
    return embeddings | {name for name, value in network.named_parameters() if value.ndim < 2}


def parameter_groups(network: nn.Module, rate: float, head_rate: float, decay: float) -> list[dict[str, Any]]:
    """Groups for the optimiser: head or body, with decay or without; `peak` is the group's highest learning rate."""
    spared = undecayed(network)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, value in network.named_parameters():
        if value.requires_grad:
            groups.setdefault((name.startswith(HEAD), name not in spared), []).append(value)
    return [
        {"params": values, "peak": head_rate if head else rate, "lr": 0.0, "weight_decay": decay if decayed else 0.0}
        for (head, decayed), values in groups.items()
    ]


def make_optimiser(groups: list[dict[str, Any]], device: torch.device) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), all parameters in one fused pass where the device can."""
    return torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"))


def course(step: int, total: int, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate at `step` (from 0) of `total`."""
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    if schedule == "linear":
        return 1.0 - done
    return 0.5 * (1.0 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0


def set_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set each group's learning rate to `share` of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


def clip(optimiser: torch.optim.AdamW, parameters: list[nn.Parameter], limit: float) -> None:
    """See that the next step takes a gradient whose norm is at most `limit` (Pascanu et al. 2013).

    A fused optimiser divides by `grad_scale` while it reads the gradient, which saves a pass over all of it.
    """
    if not optimiser.defaults["fused"] or is_spread(parameters[0]):
        nn.utils.clip_grad_norm_(parameters, limit)
        return
    norm = nn.utils.get_total_norm([value.grad for value in parameters if value.grad is not None])
    optimiser.grad_scale = (norm / limit).clamp(min=1.0)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: `optimiser.<parameter>.<what>`."""
    values = [value for group in optimiser.param_groups for value in group["params"]]
    return {
        f"optimiser.{index}.{what}": tensor
        for index, value in enumerate(values)
        for what, tensor in optimiser.state.get(value, {}).items()
    }


def blank_optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What `optimiser_tensors` gives after a step, before there was one: zeros to be filled."""
    values = [value for group in optimiser.param_groups for value in group["params"]]
    blank: dict[str, Tensor] = {}
    for index, value in enumerate(values):
        blank[f"optimiser.{index}.step"] = torch.zeros((), dtype=torch.float32)
        for what in ("exp_avg", "exp_avg_sq"):
            blank[f"optimiser.{index}.{what}"] = torch.zeros_like(value).detach()
    return blank


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    values = [value for group in optimiser.param_groups for value in group["params"]]
    for index, value in enumerate(values):
        prefix = f"optimiser.{index}."
        state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        # copies, so that memory is aligned as in a fresh run; a fused step counts on the device, others on the CPU
        fused = optimiser.defaults["fused"]
        optimiser.state[value] = {
            what: t.to(value.device if fused or what != "step" else "cpu", copy=True) for what, t in state.items()
        }
