"""Runs llmops and kills it (SIGKILL, from inside) at the n-th os.replace, os.rename, os.fsync or os.link.

python -m tests.killer N before|after ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

COUNTED = ("replace", "rename", "fsync", "link")


def arm(at: int, when: str) -> None:
    """Let the process die at the call number `at`, before it or after it."""
    calls = 0

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in COUNTED:
        setattr(os, name, deadly(getattr(os, name)))


if __name__ == "__main__":
    arm(int(sys.argv[1]), sys.argv[2])
    sys.argv = ["llmops", *sys.argv[3:]]
    from llmops.cli import main

    main()
