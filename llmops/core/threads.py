"""How threads of a computation wait for each other (soon asleep, so that two processes on a machine share it fairly),
and where they take memory from (one place, so that it does not grow with every new shape)."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

WAITING = {"GOMP_SPINCOUNT": "2000"}
"""OpenMP's threads would spin 300,000 times at the end of every product, which with a second busy process slows a
training to a third of its share; not to spin at all costs a small network a seventh of its rate when there is none
(docs/performance.md). Read when torch is loaded."""


def wait_asleep() -> None:
    """Set `WAITING` for this process and those it starts, unless a user has said otherwise; before torch is loaded."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)


ARENA_MAX = -8
"""mallopt's name for how many places glibc hands out memory from."""


def share_memory() -> None:
    """Let all threads of this process take memory from one place, before they begin to.

    By default glibc gives threads places of their own, and each keeps what batches of ever new shapes have freed there
    (docs/performance.md). Other C libraries have no such setting.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(ARENA_MAX, 1)
