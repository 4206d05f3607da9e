"""Several processes behind one socket: each has a model and an event loop of its own, all write one traffic log."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
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


def end_with(parent: int) -> None:
    """Tell this process to stop once its parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


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
            if self.told is None:
                self._start(number)
        while self.going:
            pid, status = os.wait()
            number, began = self.going.pop(pid, (-1, 0.0))  # the first process of a container inherits others' children
            if number >= 0 and self.told is None:
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
        told, parent = {signal.SIGTERM, signal.SIGINT}, os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, told)  # who tells to stop finds every process known
        pid = os.fork()
        if pid:
            self.going[pid] = (number, time.monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, told)
            return
        code = 1
        try:
            for one in told:
                signal.signal(one, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, told)
            threading.Thread(target=end_with, args=(parent,), daemon=True).start()
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
