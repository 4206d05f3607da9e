"""How a bundle computes: one run of the network for each batch, or token by token over a cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.bundle.session import MODEL, cores, open_session
from llmops.bundle.stepper import SLOTS, OnnxStepper
from llmops.core.protocols import Arrays

__all__ = ["MODEL", "OneShot", "cores", "open_runtime"]


def open_runtime(
    folder: Path,
    threads: int = 0,
    runtime: str = "oneshot",
    settings: Mapping[str, Any] | None = None,
    slots: int = SLOTS,
) -> Any:
    """The Runtime ("oneshot") or Stepper ("stepper") of the bundle in `folder`, computing with `threads` threads (0:
    one for each core). `settings` are bundle.json's; `slots`: conversations that a stepper holds at once.

    Raises DataError when the model file is missing or ONNX Runtime refuses it.
    """
    if runtime == "stepper":
        return OnnxStepper(folder, settings or {}, threads, slots)
    return OneShot(folder / MODEL, threads or cores())


class OneShot:
    """An ONNX file whose inputs are arrays with a batch axis."""

    def __init__(self, path: Path, threads: int) -> None:
        self.session = open_session(path, threads)

    def run(self, batch: Arrays) -> list[Any]:
        """The network's output arrays for one batch."""
        return list(self.session.run(None, dict(batch)))
