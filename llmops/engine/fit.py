"""The only training loop: steps, epochs, early stopping, the best epoch, exact resume."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmops.core.errors import DataError
from llmops.core.protocols import Listener, Progress, Room
from llmops.engine.checkpoint import Checkpoints
from llmops.engine.config import FitSection
from llmops.engine.device import random_state, restore_random_state
from llmops.engine.memory import PeakMemory
from llmops.engine.optim import (
    clip,
    course,
    make_optimiser,
    optimiser_tensors,
    parameter_groups,
    restore_optimiser,
    set_rate,
)
from llmops.engine.state import State, Trainable, fingerprint

EVENT_EVERY_S = 2.0
PROGRESS_EVERY_S = 0.2
CURVE_POINTS = 200
CHECKPOINT_SHARE = 30
"""A checkpoint is written no sooner than after this many times of what the last one took."""


class Diverged(DataError):
    """The loss is no longer a number."""


def fit(
    problem: Trainable, settings: FitSection, seed: int, work: Path, room: Room, listener: Listener | None = None
) -> State:
    """Train `problem.network` and leave the best epoch's weights in it.

    A training that was killed carries on from `work` to bit-identical weights (same machine, same number of
    threads). Raises Diverged when the loss is no longer a number.
    """
    loop = Loop(problem, settings, seed, work, room)
    with PeakMemory() as memory:
        loop.memory = memory
        loop.run(listener)
    return loop.state


class Loop:
    """One training. `run` is the story; the other methods are its parts."""

    def __init__(self, problem: Trainable, settings: FitSection, seed: int, work: Path, room: Room) -> None:
        self.problem, self.settings, self.seed, self.room = problem, settings, seed, room
        self.network = problem.network
        self.steps = problem.steps(settings.batch_size)
        self.total = settings.steps or self.steps * settings.epochs
        self.device = next(self.network.parameters()).device
        groups = parameter_groups(self.network, settings.learning_rate, problem.head_rate, settings.weight_decay)
        self.optimiser = make_optimiser(groups, self.device)
        self.trained = [value for value in self.network.parameters() if value.requires_grad]
        self.checkpoints = Checkpoints(work / "checkpoints", fingerprint(problem, settings, seed))
        self.state = State()
        self.memory = PeakMemory()
        # mps has no float64
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=exact, device=self.device)
        self.began = self.checkpointed = self.told = self.drawn = time.monotonic()
        self.checkpoint_took = 0.0

    def run(self, listener: Listener | None) -> None:
        self.resume()
        with self.room.progress("training", total=self.total) as bar:
            while not self.state.over:
                self.train_epoch(bar)
                self.end_epoch(listener)
        if self.state.best_file:
            self.load_weights(self.checkpoints.read_best(self.state.best_file))

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        found = self.checkpoints.latest()
        if found is None:
            return
        state, tensors = found
        restore_random_state(state.pop("random"))
        self.state = State(**state)
        self.load_weights(
            {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
        )
        restore_optimiser(self.optimiser, tensors)
        self.loss_sum.fill_(self.state.loss_sum)
        self.room.say(f"carrying on with epoch {self.state.epoch}, step {self.state.step} of {self.total}")

    def train_epoch(self, bar: Progress) -> None:
        """The steps that this epoch still has."""
        batches = self.problem.plan(self.settings.batch_size, self.seed, self.state.epoch)
        before = (self.state.epoch - 1) * self.steps
        self.network.train()
        for rows in batches[self.state.step - before : self.total - before]:
            loss = self.step(rows)
            self.note_point(loss)
            now = time.monotonic()
            if now - self.drawn >= PROGRESS_EVERY_S:
                self.drawn = now
                bar.update(self.state.step, self.note())
            if now - self.told >= EVENT_EVERY_S:
                self.told = now
                self.room.emit("train.step", step=self.state.step, loss=self.mean_loss(), **self.rates())
            if self.checkpoint_is_due(now) and self.state.step % self.steps and self.state.step < self.total:
                self.checkpoint()
        bar.update(self.state.step, self.note())

    def step(self, rows: np.ndarray) -> Tensor:
        """One batch: loss, gradient, clipping, update."""
        set_rate(self.optimiser, course(self.state.step, self.total, self.settings.warmup, self.settings.schedule))
        loss = self.problem.loss(rows)
        loss.backward()
        if self.settings.clip:
            clip(self.optimiser, self.trained, self.settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.loss_sum += loss.detach() * len(rows)
        self.state.loss_rows += len(rows)
        self.state.rows += len(rows)
        self.state.tokens += self.problem.tokens(rows)
        self.state.step += 1
        return loss

    def note_point(self, loss: Tensor) -> None:
        """Keep a point of the curve now and then; a loss that is no number ends the training."""
        if (self.state.step - 1) % max(1, self.total // CURVE_POINTS):
            return
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(
                f"The training diverged: the loss is {value} at step {self.state.step}.",
                where="train.learning_rate",
                do=f"lower `train.learning_rate` (now {self.settings.learning_rate:g}), or raise `train.warmup`.",
            )
        self.state.curve.append([self.state.step, value, self.learning_rate()])

    def end_epoch(self, listener: Listener | None) -> None:
        """Evaluate, keep the best, ask whether to go on, write a checkpoint."""
        self.network.eval()
        with torch.no_grad():
            metrics = self.problem.evaluate()
        state, loss = self.state, self.mean_loss()
        row = {
            "epoch": state.epoch,
            # a task whose metric is the loss means the one on validation
            "train_loss" if "loss" in metrics else "loss": loss,
            **metrics,
            "learning_rate": self.learning_rate(),
            "seconds": self.seconds(),
        }
        state.history.append(row)
        self.room.emit("train.epoch", **row)
        self.keep_best(metrics[self.problem.metric])
        stop = listener(state.epoch, metrics) if listener else False
        tired = bool(self.settings.patience) and state.waited >= self.settings.patience
        state.over = bool(stop) or tired or state.step >= self.total
        state.epoch, state.loss_rows = state.epoch + 1, 0
        self.loss_sum.zero_()
        if state.over or self.checkpoint_is_due(time.monotonic()):
            self.checkpoint()

    def keep_best(self, value: float) -> None:
        """An equal epoch replaces the best one (it has seen more), but only a better one ends the waiting."""
        state = self.state
        better = state.best is None or (value > state.best if self.problem.higher else value < state.best)
        state.waited = 0 if better else state.waited + 1
        if better or value == state.best:
            state.best, state.best_epoch = value, state.epoch
            state.best_file = self.checkpoints.write_best(state.epoch, self.weights())

    def checkpoint_is_due(self, now: float) -> bool:
        if not self.settings.checkpoint_every_s:
            return True
        return now - self.checkpointed >= max(self.settings.checkpoint_every_s, CHECKPOINT_SHARE * self.checkpoint_took)

    def checkpoint(self) -> None:
        """Write all that a killed training needs to carry on exactly."""
        began = time.monotonic()
        state = self.state
        state.loss_sum, state.seconds = float(self.loss_sum), self.seconds()
        state.peak_memory_mb = max(state.peak_memory_mb, self.memory.peak_mb)
        self.began = began
        tensors = {f"network.{name}": value for name, value in self.weights().items()}
        tensors |= optimiser_tensors(self.optimiser)
        self.checkpoints.write(state.step, {**asdict(state), "random": random_state()}, tensors)
        self.checkpointed = time.monotonic()
        self.checkpoint_took = self.checkpointed - began

    def weights(self) -> dict[str, Tensor]:
        """Trained parameters and buffers; what is frozen comes from its source again."""
        return {
            **{name: value for name, value in self.network.named_parameters() if value.requires_grad},
            **dict(self.network.named_buffers()),
        }

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        here = self.weights()
        with torch.no_grad():
            for name, value in tensors.items():
                here[name].copy_(value)

    def mean_loss(self) -> float:
        """Mean training loss of this epoch so far."""
        return float(self.loss_sum) / max(1, self.state.loss_rows)

    def learning_rate(self) -> float:
        """The body's learning rate at the last step (a training of the head alone has no other)."""
        return float(self.optimiser.param_groups[0]["lr"])

    def seconds(self) -> float:
        """Seconds of training, those before a kill included."""
        return self.state.seconds + time.monotonic() - self.began

    def rates(self) -> dict[str, float]:
        """Training rows and tokens a second, evaluation and checkpoints included."""
        seconds = max(1e-9, self.seconds())
        return {"rows_per_s": self.state.rows / seconds, "tokens_per_s": self.state.tokens / seconds}

    def note(self) -> str:
        left = (self.total - self.state.step) * self.seconds() / max(1, self.state.step)
        return f"loss {self.mean_loss():.3f}, {self.rates()['tokens_per_s']:,.0f} tokens/s, {left:.0f} s left"
