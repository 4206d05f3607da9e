"""Clock: where a training's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llmops.engine.precision import synchronise

SAMPLED = 16
"""On a GPU, which works while the program goes on, only every so many steps are timed (that means waiting for it)."""
PHASES = ("data", "forward", "backward", "optimiser", "evaluation", "checkpoint")


class Clock:
    """`spent`: seconds by phase. On a CPU every lap counts; on a GPU the laps of some steps stand for all."""

    def __init__(self, device: torch.device) -> None:
        self.spent = dict.fromkeys(PHASES, 0.0)
        self._device = device
        self._every = SAMPLED if device.type == "cuda" else 1
        self._counted = True
        self._since = 0.0

    def start(self, step: int) -> None:
        """A step begins; the first lap is measured from here."""
        # not the first step, which sets things up
        self._counted = step % self._every == self._every // 2
        if self._counted:
            synchronise(self._device)
            self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What was done since the last lap was `phase`."""
        if self._counted:
            synchronise(self._device)
            now = time.perf_counter()
            self.spent[phase] += self._every * (now - self._since)
            self._since = now

    @contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """Count what is done within as `phase`."""
        began = time.perf_counter()
        yield
        synchronise(self._device)
        self.spent[phase] += time.perf_counter() - began
