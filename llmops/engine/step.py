"""One step of a training: the gradient of a batch, over all processes, in pieces where memory is short; the update."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmops.core.errors import MachineError
from llmops.engine.clock import Clock
from llmops.engine.config import FitSection
from llmops.engine.device import device_of, seed_step
from llmops.engine.memory import held_mb, limit_mb
from llmops.engine.optim import clip, course, make_optimiser, parameter_groups, set_rate
from llmops.engine.parallel import World, is_spread, replicated
from llmops.engine.precision import computing
from llmops.engine.state import Trainable


class Forward(nn.Module):
    """A problem's loss as a module, so that what watches modules (DDP) sees the network at work."""

    def __init__(self, problem: Trainable) -> None:
        super().__init__()
        self.problem, self.network = problem, problem.network

    def forward(self, batch: Any, share: float) -> Tensor:
        return self.problem.loss(batch) * share


class Stepper:
    """Takes steps on a problem. `total` steps are planned, `steps` in an epoch; `settings` are resolved (batch size,
    precision)."""

    def __init__(
        self, problem: Trainable, settings: FitSection, seed: int, total: int, steps: int, world: World, clock: Clock
    ) -> None:
        self.problem, self.settings, self.seed, self.world, self.clock = problem, settings, seed, world, clock
        self.total, self.steps = total, steps
        self.device = device_of(problem.network)
        groups = parameter_groups(problem.network, settings.learning_rate, problem.head_rate, settings.weight_decay)
        self.optimiser = make_optimiser(groups, self.device)
        self.trained = [value for value in problem.network.parameters() if value.requires_grad]
        step = Forward(problem)
        self.forward = step if any(map(is_spread, self.trained)) else replicated(step)
        self.parts = 1

    def take(self, rows: np.ndarray, step: int) -> Tensor:
        """Step number `step` (from 0) on a batch of the plan; the sum of its losses over what it counts."""
        set_rate(self.optimiser, course(step, self.total, self.settings.warmup, self.settings.schedule))
        self.clock.start(step)
        loss = self.gradient(rows, step)
        if self.settings.clip:
            clip(self.optimiser, self.trained, self.settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.clock.lap("optimiser")
        return loss

    def gradient(self, rows: np.ndarray, step: int) -> Tensor:
        """Fill the gradients; when memory runs out, in twice as many pieces, from here on."""
        while True:
            seed_step(self.seed, step, self.world.rank)
            try:
                return self.accumulate(rows)
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
            # outside of `except`: an exception holds on to what was computed
            self.shrink(rows)

    def accumulate(self, rows: np.ndarray) -> Tensor:
        """The gradient of this process's part of a batch, averaged with the others'; the loss of all."""
        mine = self.world.part(rows)
        whole = self.problem.step_weight(rows, self.steps)
        loss = torch.zeros((), device=self.device)
        for part in np.array_split(mine, max(1, min(self.parts, len(mine)))):
            # without rows of its own a process takes one along that counts nothing
            batch = self.problem.collate(part if len(part) else rows[:1])
            share = self.problem.weight(part) / max(whole, 1e-9) if len(part) else 0.0
            self.clock.lap("data")
            with computing(self.settings.precision, self.device):
                found = self.forward(batch, share * self.world.size)
            self.clock.lap("forward")
            found.backward()
            self.clock.lap("backward")
            loss += found.detach()
        return self.world.sum(loss) * (whole / self.world.size)

    def shrink(self, rows: np.ndarray) -> None:
        """Go on with half as much at once; MachineError when that is not possible."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.world.size > 1 or self.parts >= len(rows):
            raise MachineError(
                f"Memory ran out at a batch of {len(rows)}: {held_mb(self.device):,.0f} MB are held, "
                f"the device has {limit_mb(self.device):,.0f} MB.",
                "train.batch_size",
                "lower `train.batch_size`, shorten the texts, or take a smaller model",
            )
        self.parts *= 2


def ran_out(error: Exception) -> bool:
    """Whether memory ran out. On a CPU torch has no class of its own for that, only these words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
