"""How much memory a training takes, and how much there is. 1 MB = 1e6 bytes."""

from __future__ import annotations

import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
import torch

from llmops.core.heap import give_back

MARK = Path("/proc/self/clear_refs")
"""Writing 5 here makes Linux forget the largest resident set so far."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class PeakMemory:
    """`peak_mb` is the most that was held since `with` began: on a GPU what torch had allocated there, else the
    process's resident set, as the kernel counts it. Where the kernel cannot be told to count anew (macOS), it is the
    most since the process began."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._cuda = device is not None and device.type == "cuda"
        self._kept: float | None = None

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return self
        with suppress(OSError):  # no Linux, or not allowed here: see the class
            MARK.write_text("5")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept = self.peak_mb

    @property
    def peak_mb(self) -> float:
        if self._kept is not None:
            return self._kept
        return torch.cuda.max_memory_allocated() / 1e6 if self._cuda else resident_peak_mb()


def resident_peak_mb() -> float:
    """The largest resident set of this process since the kernel's mark was last reset."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def held_mb(device: torch.device) -> float:
    """What is held now, there where the training's memory is counted."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated()) / 1e6
    return float(psutil.Process().memory_info().rss) / 1e6


def settled_mb(device: torch.device) -> float:
    """What is held when all that has been freed is given back to the system."""
    gc.collect()
    give_back()
    return held_mb(device)


def limit_mb(device: torch.device) -> float:
    """Memory of the device: a GPU's own, else this machine's, or the container's when that is less."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory) / 1e6
    most = float(psutil.virtual_memory().total)
    for place in map(Path, CGROUP_LIMITS):
        if place.exists() and (told := place.read_text().strip()).isdigit():
            most = min(most, float(told))
    return most / 1e6
