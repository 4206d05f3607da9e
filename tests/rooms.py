"""FakeRoom: a stage's room in a temporary folder that remembers what was said, emitted and shown as progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops.core.protocols import Places

FORESEEN = {"epoch_s", "train_s", "train_s_upper", "rows_per_s", "tokens_per_s"}
FORESEEN |= {"peak_memory_mb", "memory_limit_mb", "disk_mb", "parameters"}
"""What a learner's probe tells."""


@dataclass
class FakeProgress:
    """A bar that nobody sees; `updates` keeps every (done, note)."""

    what: str
    total: float | None
    updates: list[tuple[float, str]] = field(default_factory=list)

    def __enter__(self) -> FakeProgress:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def update(self, done: float, note: str = "") -> None:
        self.updates.append((done, note))


class FakeRoom:
    """`out` and `work` below `folder`, made here; `said` (lines), `events` (dicts) and `bars` collect."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.work = folder / "work"
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.said: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.bars: list[FakeProgress] = []

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    def progress(self, what: str, total: float | None = None) -> FakeProgress:
        self.bars.append(FakeProgress(what, total))
        return self.bars[-1]

    def say(self, line: str) -> None:
        self.said.append(line)


def places_in(root: Path, project: str = "demo") -> Places:
    """Places of a project whose root is `root`, laid out as the runner lays them out."""
    return Places(root, root / "runs" / project, root / "registry" / project, root / "traffic" / project)
