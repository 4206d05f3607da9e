"""Quiet: a room for learners and encoders in which nobody listens."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any


class Quiet:
    """`out` and `work` are `folder`; nothing is said or shown."""

    def __init__(self, folder: Path) -> None:
        self.out = self.work = folder

    def emit(self, event: str, **fields: Any) -> None: ...
    def say(self, line: str) -> None: ...
    def update(self, done: float, note: str = "") -> None: ...
    def progress(self, what: str, total: float | None = None) -> Any:
        return nullcontext(self)
