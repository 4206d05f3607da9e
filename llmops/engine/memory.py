"""PeakMemory: the most memory that the process held while something ran."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

EVERY_S = 0.05


class PeakMemory:
    """Samples the resident set in a thread; `peak_mb` is the largest seen, 1 MB = 1e6 bytes."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _look(self) -> None:
        self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)

    def _watch(self) -> None:
        while not self._done.wait(EVERY_S):
            self._look()
