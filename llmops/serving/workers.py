"""Several processes behind one socket: each has a model and an event loop of its own, all write one traffic log."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

logger = logging.getLogger(__name__)
AGAIN_S = 1.0
"""A worker that dies is started again after so long, twice as long each time it dies young."""
YOUNG_S = 30.0
MOST_AGAIN_S = 60.0


def spread(count: int, work: Callable[[int], None]) -> None:
    """Do `work(number)` in `count` processes (in this one where it is one) until SIGTERM or SIGINT, which all of them
    hear; a worker that dies is replaced. Returns when all have ended."""
    if count == 1:
        work(0)
        return
    if not hasattr(os, "fork"):
        logger.warning("this system has no processes that share a socket: one worker serves")
        work(0)
        return
    Workers(count, work).run()


class Workers:
    """The processes, and when each began."""

    def __init__(self, count: int, work: Callable[[int], None]) -> None:
        self.work, self.wait_s = work, AGAIN_S
        self.going: dict[int, tuple[int, float]] = {}
        """By process id: the worker's number, and when it began (monotonic seconds)."""
        self.numbers = list(range(count))
        self.told: int | None = None

    def run(self) -> None:
        """Start all, replace who dies, pass on who tells to stop."""
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self._stop)
        for number in self.numbers:
            self._start(number)
        while self.going:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            number, began = self.going.pop(pid)
            if self.told is None:
                self._replace(number, began, status)

    def _replace(self, number: int, began: float, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.wait_s = AGAIN_S if time.monotonic() - began > YOUNG_S else min(2 * self.wait_s, MOST_AGAIN_S)
        logger.error("worker %d ended with %d; another takes its place in %.0f s", number, code, self.wait_s)
        end = time.monotonic() + self.wait_s
        while self.told is None and time.monotonic() < end:
            time.sleep(0.05)
        if self.told is None:
            self._start(number)

    def _start(self, number: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self.going[pid] = (number, time.monotonic())
            return
        code = 1
        try:
            for one in (signal.SIGTERM, signal.SIGINT):
                signal.signal(one, signal.SIG_DFL)
            self.work(number)
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            logger.exception("worker %d failed", number)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _stop(self, told: int, frame: FrameType | None) -> None:
        self.told = told
        for pid in list(self.going):
            os.kill(pid, signal.SIGTERM)
