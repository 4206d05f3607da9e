"""The only training loop: steps, epochs, early stopping, the best epoch, exact resume."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmops.core.errors import DataError
from llmops.core.protocols import Listener, Progress, Room
from llmops.engine.checkpoint import Checkpoints
from llmops.engine.choices import resolved
from llmops.engine.clock import Clock
from llmops.engine.compiling import compiled, plain
from llmops.engine.config import FitSection
from llmops.engine.device import device_of
from llmops.engine.flops import utilisation
from llmops.engine.keeper import Keeper
from llmops.engine.memory import PeakMemory, held_mb
from llmops.engine.parallel import gathered, joined, spread, world
from llmops.engine.state import State, Trainable, fingerprint
from llmops.engine.step import Stepper

EVENT_EVERY_S = 2.0
PROGRESS_EVERY_S = 0.2
CURVE_POINTS = 200
CHECKPOINT_SHARE = 30
"""A checkpoint is written no sooner than after this many times of what the last one took."""
AGREED_EVERY = 8
"""Processes that hold parts of a network decide every so many steps together whether to write a checkpoint."""


class Diverged(DataError):
    """The loss is no longer a number."""


def fit(
    problem: Trainable, settings: FitSection, seed: int, work: Path, room: Room, listener: Listener | None = None
) -> State:
    """Train `problem.network` and leave the best epoch's weights in it.

    A training that was killed carries on from `work` to bit-identical weights (same machine, same number of
    threads and processes). Where processes train together (parallel.join), all call this alike. Raises Diverged when
    the loss is no longer a number, MachineError when not even one row fits into memory.
    """
    device = device_of(problem.network)
    with PeakMemory(device) as memory:
        loop = Loop(problem, settings, seed, work, room, memory)
        loop.run(listener)
    return loop.state


class Loop:
    """One training. `run` is the story; the other methods are its parts."""

    def __init__(
        self,
        problem: Trainable,
        settings: FitSection,
        seed: int,
        work: Path,
        room: Room,
        memory: PeakMemory | None = None,
    ) -> None:
        self.problem, self.seed, self.room, self.world = problem, seed, room, world()
        self.device = device_of(problem.network)
        self.settings = resolved(problem, settings, work, room, self.world)
        self.steps = problem.steps(batch_size(self.settings))
        self.total = settings.steps or self.steps * settings.epochs
        # in a process by itself (tune, distillation) there is nobody to share with
        self.skeleton = spread(problem.network, self.device) if settings.shard and joined() else None
        if settings.compile:
            compiled(problem.network, self.device)
        self.state = State()
        self.clock = Clock(self.device)
        self.stepper = Stepper(problem, self.settings, seed, self.total, self.steps, self.world, self.clock)
        checkpoints = Checkpoints(work / "checkpoints", fingerprint(problem, self.settings, seed))
        self.keeper = Keeper(problem.network, self.stepper.optimiser, checkpoints, self.world)
        self.memory = memory or PeakMemory(self.device)
        # mps has no float64
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=exact, device=self.device)
        self.began = self.checkpointed = self.told = self.drawn = time.monotonic()
        self.noted = (0.0, 0)

    def run(self, listener: Listener | None) -> None:
        try:
            self.resume()
            with self.room.progress("training", total=self.total) as bar:
                while not self.state.over:
                    self.train_epoch(bar)
                    self.end_epoch(listener)
            self.finish()
        finally:
            self.keeper.close()

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        found = self.keeper.latest()
        if found is None:
            return
        self.state = State(**found)
        self.clock.spent |= self.state.spent
        self.stepper.parts = self.state.parts
        self.loss_sum.fill_(self.state.loss_sum)
        self.room.say(f"carrying on with epoch {self.state.epoch}, step {self.state.step} of {self.total}")

    def train_epoch(self, bar: Progress) -> None:
        """The steps that this epoch still has."""
        batches = self.problem.plan(batch_size(self.settings), self.seed, self.state.epoch)
        before = (self.state.epoch - 1) * self.steps
        self.problem.network.train()
        for rows in batches[self.state.step - before : self.total - before]:
            self.note_point(rows, self.step(rows))
            now = time.monotonic()
            if now - self.drawn >= PROGRESS_EVERY_S:
                self.drawn = now
                bar.update(self.state.step, self.note())
            if now - self.told >= EVENT_EVERY_S:
                self.told = now
                self.room.emit("train.step", step=self.state.step, loss=self.mean_loss(), **self.rates())
            if self.state.step % self.steps and self.state.step < self.total and self.checkpoint_is_due(now):
                self.checkpoint()
        bar.update(self.state.step, self.note())

    def step(self, rows: np.ndarray) -> Tensor:
        """One batch of the plan; the sum of its losses."""
        loss = self.stepper.take(rows, self.state.step)
        self.loss_sum += loss
        self.state.loss_weight += self.problem.weight(rows)
        self.state.rows += len(rows)
        self.state.tokens += self.problem.tokens(rows)
        self.state.step += 1
        if self.stepper.parts != self.state.parts:
            self.state.parts = self.stepper.parts
            self.room.say(f"memory ran out: batches are computed in {self.state.parts} parts from here on")
        return loss

    def note_point(self, rows: np.ndarray, loss: Tensor) -> None:
        """Keep a point of the curve now and then; a loss that is no number ends the training."""
        if (self.state.step - 1) % max(1, self.total // CURVE_POINTS):
            return
        value = float(loss) / max(1e-9, self.problem.weight(rows))
        if not np.isfinite(value):
            raise Diverged(
                f"The training diverged: the loss is {value} at step {self.state.step}.",
                where="train.learning_rate",
                do=f"lower `train.learning_rate` (now {self.settings.learning_rate:g}), or raise `train.warmup`.",
            )
        seconds, tokens = self.seconds(), self.state.tokens
        rate = (tokens - self.noted[1]) / max(1e-9, seconds - self.noted[0])
        self.noted = (seconds, tokens)
        self.state.curve.append(
            {
                "step": self.state.step,
                "loss": value,
                "learning_rate": self.learning_rate(),
                "seconds": seconds,
                "tokens_per_s": rate,
                "memory_mb": held_mb(self.device),
            }
        )

    def end_epoch(self, listener: Listener | None) -> None:
        """Evaluate, keep the best, ask whether to go on, write a checkpoint."""
        with self.clock.timing("evaluation"):
            metrics = self.evaluate()
        state = self.state
        row = {
            "epoch": state.epoch,
            # a task whose metric is the loss means the one on validation
            "train_loss" if "loss" in metrics else "loss": self.mean_loss(),
            **metrics,
            "learning_rate": self.learning_rate(),
            "seconds": self.seconds(),
        }
        state.history.append(row)
        self.room.emit("train.epoch", **row)
        with self.clock.timing("checkpoint"):
            self.keep_best(metrics[self.problem.metric])
        stop = listener(state.epoch, metrics) if listener else False
        tired = bool(self.settings.patience) and state.waited >= self.settings.patience
        state.over = bool(stop) or tired or state.step >= self.total
        state.epoch, state.loss_weight = state.epoch + 1, 0.0
        self.loss_sum.zero_()
        if state.over or self.checkpoint_is_due(time.monotonic()):
            self.checkpoint()

    def evaluate(self) -> dict[str, float]:
        """The problem's figures. The first process computes them for all, unless each holds a part of the network."""
        self.problem.network.eval()
        if self.skeleton is None and not self.world.first:
            return self.world.told(None)
        with torch.no_grad():
            return self.world.told(self.problem.evaluate())

    def keep_best(self, value: float) -> None:
        """An equal epoch replaces the best one (it has seen more), but only a better one ends the waiting."""
        state = self.state
        better = state.best is None or (value > state.best if self.problem.higher else value < state.best)
        state.waited = 0 if better else state.waited + 1
        if better or value == state.best:
            state.best, state.best_epoch = value, state.epoch
            state.best_file = self.keeper.save_best(state.epoch)

    def checkpoint_is_due(self, now: float) -> bool:
        wanted = self.settings.checkpoint_every_s
        due = not wanted or now - self.checkpointed >= max(wanted, CHECKPOINT_SHARE * self.keeper.took_s)
        if self.skeleton is None:
            return due
        return self.state.step % AGREED_EVERY == 0 and bool(self.world.same(float(due)))

    def checkpoint(self) -> None:
        """Have all written that a killed training needs to carry on exactly."""
        began, state = time.monotonic(), self.state
        with self.clock.timing("checkpoint"):
            state.loss_sum, state.seconds, state.spent = float(self.loss_sum), self.seconds(), dict(self.clock.spent)
            state.peak_memory_mb = max(state.peak_memory_mb, self.memory.peak_mb)
            self.began = began
            # the digest of the best file may still be on its way: the same dict, not a copy
            self.keeper.save(state.step, {**asdict(state), "best_file": state.best_file})
        self.checkpointed = time.monotonic()

    def finish(self) -> None:
        """The best weights, in a network that is whole and plain again; and how well the machine was used."""
        self.keeper.wait()
        self.problem.network.train()
        if self.settings.compile:
            plain(self.problem.network)
        batches = self.problem.plan(batch_size(self.settings), self.seed, 1)
        used = utilisation(self.stepper, batches, self.state)
        if self.state.best_file:
            self.keeper.load_best(self.state.best_file)
        if self.skeleton is not None:
            self.problem.network = gathered(self.problem.network, self.skeleton)
        self.state.machine = {
            **used,
            "batch_size": batch_size(self.settings),
            "precision": self.settings.precision,
            "processes": self.world.size,
        }

    def mean_loss(self) -> float:
        """Mean training loss of this epoch so far."""
        return float(self.loss_sum) / max(1e-9, self.state.loss_weight)

    def learning_rate(self) -> float:
        """The body's learning rate at the last step (a training of the head alone has no other)."""
        return float(self.stepper.optimiser.param_groups[0]["lr"])

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


def batch_size(settings: FitSection) -> int:
    """The size of settings that `resolved` gave."""
    assert isinstance(settings.batch_size, int)
    return settings.batch_size
