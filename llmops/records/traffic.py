"""The traffic log: every request, answer, rating and correction, written by one background thread.

`record` and `feedback` only queue; the thread commits what has gathered at most 50 ms later. A killed process
loses at most those 50 ms, a closed one nothing. What reads the log stands in trafficreader.py.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Self

from llmops.core.errors import DataError, UsageError
from llmops.fields.redaction import KINDS
from llmops.fields.redaction import redact as redact_text
from llmops.records.trafficfile import connect, explained
from llmops.records.trafficrows import Opinion, Request, valid

GATHER_S = 0.02
"""How long a commit waits for more rows; with the write itself it stays below 50 ms."""
BATCH = 1000
"""Rows in one transaction at most, so that a burst doesn't hold up other processes."""
PRUNE_EVERY_S = 3600.0
RETRY_S = 0.5
DAY_S = 86_400.0


def new_id() -> str:
    """A fresh request id (a random UUID)."""
    return str(uuid.uuid4())


class TrafficLog:
    """The log open for writing. Several processes may have it open at once; threads may share one."""

    def __init__(
        self, path: Path, keep_days: float = 30, keep_text: bool = True, redact: bool = True, queue: int = 65_536
    ) -> None:
        """`queue` bounds the rows in memory. Raises DataError for a damaged, foreign or newer file."""
        self.path = path
        self.trouble: str | None = None
        """Why the last write failed, in words; None when it went well."""
        self.dropped = 0
        """Rows refused because the queue was full: the disk is full, or does not keep up."""
        self._keep_days, self._keep_text, self._redact, self._limit = keep_days, keep_text, redact, queue
        self._rows: deque[Request | Opinion] = deque()
        self._pending: set[str] = set()
        self._state = threading.Condition()
        self._queued = self._written = 0
        self._hurry = self._closing = False
        self._writer, self._reader = connect(path), connect(path)
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._write_on, name="traffic-log", daemon=True)
        self._thread.start()

    def record(
        self,
        request_id: str,
        *,
        version: int | None,
        request: Mapping[str, Any] | None,
        response: Mapping[str, Any] | None,
        label: str | None,
        probability: float | None,
        abstained: bool,
        latency_ms: float | None,
        at: float | None = None,
        source: str = "http",
        prose: bool = False,
    ) -> bool:
        """Queue one answered request; never waits for the disk.

        `request` is all that was asked, JSON-able as `response` is; `label` is the best label, also when the model
        abstained; `at` is seconds since 1970 (default: now). With `prose` the response may repeat what was asked (words
        that the model wrote as "answer", the reasons of an answer) and is redacted like the request. An id that is
        already there is left as it is. False when the queue is full: the row is not logged, and `dropped` counts it.
        """
        return self._queue(
            Request(
                valid(request_id),
                time.time() if at is None else at,
                version,
                request,
                response,
                label,
                None if probability is None else float(probability),
                abstained,
                latency_ms,
                source,
                prose,
            )
        )

    def feedback(
        self,
        request_id: str,
        rating: int | None = None,
        correction: str | None = None,
        by: str | None = None,
        at: float | None = None,
        prose: bool = False,
    ) -> bool:
        """Queue a rating (+1 or -1) and/or a correction (the right label; with `prose`, the right answer's words, which
        are redacted) for a request of the log.

        Raises UsageError for any other rating, for nothing said at all, and for an id that the log does not
        hold (test it with `knows`; rows still in the queue count). False when the queue is full.
        """
        if rating not in (None, 1, -1):
            raise UsageError(f"a rating is 1 or -1, not {rating!r}", do="send 1 for right, -1 for wrong")
        if rating is None and not correction:
            raise UsageError("feedback needs a rating or a correction", do="send `rating`, `correction`, or both")
        if not self.knows(request_id):
            raise UsageError(
                f"no request has the id {request_id!r}",
                do=f"send the id that came with the answer; requests are forgotten after {self._keep_days:g} days",
            )
        now = time.time() if at is None else at
        return self._queue(Opinion(valid(request_id), now, rating, correction or None, by, prose))

    def knows(self, request_id: str) -> bool:
        """Whether the log holds this request, written or still queued."""
        request_id = valid(request_id)
        with self._state:
            if request_id in self._pending:
                return True
        with self._reading, explained(self.path):
            found = self._reader.execute("SELECT 1 FROM requests WHERE id = ?", (request_id,)).fetchone()
        return found is not None

    def waiting(self) -> int:
        """Rows queued and not yet committed."""
        with self._state:
            return self._queued - self._written

    def flush(self, timeout_s: float = 30.0) -> None:
        """Return when everything queued so far is committed. Raises DataError when it is not within `timeout_s`."""
        with self._state:
            target, self._hurry = self._queued, True
            self._state.notify_all()
            if not self._state.wait_for(lambda: self._written >= target, timeout_s):
                raise DataError(
                    f"{target - self._written} rows of traffic could not be written: {self.trouble or 'no answer'}",
                    str(self.path),
                    "see that the disk has room and that no other program holds the file",
                )

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what is queued, end the thread, close the file. Raises DataError when rows stay unwritten."""
        try:
            self.flush(timeout_s)
        finally:
            with self._state:
                self._closing = True
                self._state.notify_all()
            self._thread.join(timeout_s)
            with self._reading:
                self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _queue(self, row: Request | Opinion) -> bool:
        with self._state:
            if self._closing or len(self._rows) >= self._limit:
                self.dropped += 1
                return False
            self._rows.append(row)
            self._queued += 1
            if isinstance(row, Request):
                self._pending.add(row.id)
            if len(self._rows) == 1:
                self._state.notify_all()
            return True

    def _write_on(self) -> None:
        """The thread: prune when it is time, gather rows, commit them; ends when the log closes."""
        prune_at = time.monotonic()
        while not (self._closing and not self._rows):
            if time.monotonic() >= prune_at:
                self._attempt(self._prune)
                prune_at = time.monotonic() + PRUNE_EVERY_S
            batch = self._gather(prune_at)
            if batch and not self._commit(batch):
                break
        self._writer.close()

    def _gather(self, until: float) -> list[Request | Opinion]:
        """The next rows to write, oldest first; nothing when none came before `until` (monotonic seconds)."""
        with self._state:
            if not self._state.wait_for(lambda: self._rows or self._closing, max(0.0, until - time.monotonic())):
                return []
            self._state.wait_for(lambda: self._hurry or self._closing or len(self._rows) >= BATCH, GATHER_S)
            self._hurry = len(self._rows) > BATCH
            return list(islice(self._rows, BATCH))

    def _commit(self, batch: list[Request | Opinion]) -> bool:
        """Write the rows, again and again until it goes through; False when the log closes before it does."""
        requests = [row.columns(self._keep_text, self._clean) for row in batch if isinstance(row, Request)]
        opinions = [row.columns(self._keep_text, self._clean) for row in batch if isinstance(row, Opinion)]
        while not self._attempt(lambda: self._insert(requests, opinions)):
            with self._state:
                if self._state.wait_for(lambda: self._closing, RETRY_S):
                    return False
        with self._state:
            for _ in batch:
                self._rows.popleft()
            self._pending.difference_update(row.id for row in batch if isinstance(row, Request))
            self._written += len(batch)
            self._state.notify_all()
        return True

    def _insert(self, requests: list[tuple[Any, ...]], opinions: list[tuple[Any, ...]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.executemany("INSERT OR IGNORE INTO requests VALUES (?,?,?,?,?,?,?,?,?,?)", requests)
        self._writer.executemany("INSERT INTO feedback VALUES (?,?,?,?,?)", opinions)
        self._writer.execute("COMMIT")

    def _prune(self) -> None:
        """Forget requests older than `keep_days`, with what was said about them; a thousand at a time."""
        before, gone = time.time() - self._keep_days * DAY_S, BATCH
        while gone == BATCH and not self._rows:
            self._writer.execute("BEGIN IMMEDIATE")
            old = "SELECT id FROM requests WHERE at < ? ORDER BY at LIMIT ?"
            self._writer.execute(f"DELETE FROM feedback WHERE request_id IN ({old})", (before, BATCH))
            gone = self._writer.execute(f"DELETE FROM requests WHERE id IN ({old})", (before, BATCH)).rowcount
            self._writer.execute("COMMIT")

    def _attempt(self, work: Any) -> bool:
        """Do `work` in a transaction; when it fails, undo it and keep the reason in `trouble`."""
        try:
            work()
        except sqlite3.Error as error:
            self.trouble = str(error)
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            return False
        self.trouble = None
        return True

    def _clean(self, text: str) -> str:
        return redact_text(text, KINDS) if self._redact else text
