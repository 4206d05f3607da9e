"""What the C library does with freed memory. Only glibc has these settings; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
from contextlib import suppress

ARENA_MAX = -8
"""mallopt's name for how many places glibc hands out memory from."""


def share_memory() -> None:
    """Let all threads of this process take memory from one place, before they begin to.

    By default glibc gives threads places of their own, and each keeps what batches of ever new shapes have freed there
    (docs/performance.md).
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(ARENA_MAX, 1)


def give_back() -> None:
    """Give all that has been freed back to the system, which happens of itself only now and then."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
