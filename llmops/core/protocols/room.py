"""Where a stage works: the project's places, and the room that a stage is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Places:
    """Where a project's things lie. `root` is the folder that relative paths in a config are relative to."""

    root: Path
    runs: Path
    registry: Path
    traffic: Path

    def resolve(self, path: str) -> Path:
        """A path of the config as an absolute path."""
        return (self.root / Path(path).expanduser()).resolve()


class Room(Protocol):
    """The place a stage works in. `out` becomes the stage's folder, whole or not at all; `work` survives a
    kill, and the same command with the same inputs and settings finds it again."""

    out: Path
    work: Path

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event (metrics, progress) to the run's events.jsonl."""

    def progress(self, what: str, total: float | None = None) -> Progress:
        """A bar on a terminal, a line every 30 s elsewhere. Use as a context manager."""

    def say(self, line: str) -> None:
        """One line for the person who watches."""


class Progress(Protocol):
    def __enter__(self) -> Progress: ...
    def __exit__(self, *exc: object) -> None: ...
    def update(self, done: float, note: str = "") -> None:
        """`done` of `total` is done; `note` (loss, rate) stands beside the bar."""
