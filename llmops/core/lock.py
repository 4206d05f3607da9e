"""One writer at a time: a flock that the kernel frees when its holder dies, with the holder's name in it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops.core.errors import LockHeld


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock `path` while the block runs. Raises LockHeld, naming the holder, when another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            do = "wait for it to end, or stop it; nothing needs to be deleted, a dead holder frees the lock"
            raise LockHeld(
                f"another llmops is at work on this project: {_holder(stream.read())}", str(path), do
            ) from error
        stream.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        stream.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": started, "what": what}))
        stream.flush()
        yield


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"{holder['what']} (host {holder['host']}, pid {holder['pid']}, since {holder['started']})"
    except (ValueError, KeyError):
        return "its name is not written yet"
