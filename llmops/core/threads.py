"""Threads of a computation: how many there may be, and how they wait for each other: soon asleep, so that two processes
on a machine share it fairly."""

from __future__ import annotations

import os

WAITING = {"GOMP_SPINCOUNT": "2000"}
"""OpenMP's threads would spin 300,000 times at the end of every product, which with a second busy process slows a
training to a third of its share; not to spin at all costs a small network a seventh of its rate when there is none
(docs/performance.md). Read when torch is loaded."""


def wait_asleep() -> None:
    """Set `WAITING` for this process and those it starts, unless a user has said otherwise; before torch is loaded."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
