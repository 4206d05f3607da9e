"""Runs llmops as users do: a command in a folder, what it reports, and its server as a process beside."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

LLMOPS = [sys.executable, "-m", "llmops.cli"]
TOLD = 3000
"""Characters of a failed command's last words."""


def llmops(folder: Path, *words: str) -> str:
    """What a command says; ends the script, with its last words, unless it ends well."""
    done = subprocess.run([*LLMOPS, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stdout[-TOLD:]}{done.stderr[-TOLD:]}")
    return done.stdout + done.stderr


def reported(folder: Path, *words: str) -> dict[str, Any]:
    """What a command reports as JSON; ends the script, with its last words, unless a gate's no is all that it has to
    say."""
    ended = subprocess.run([*LLMOPS, *words, "--json"], cwd=folder, capture_output=True, text=True)
    found: dict[str, Any] = json.JSONDecoder().raw_decode(ended.stdout or "{}")[0]
    if "stages" not in found:
        raise SystemExit(f"llmops {' '.join(words)} ended with {ended.returncode}:\n{ended.stderr[-TOLD:]}")
    return found


def resident_mb(pid: int) -> float:
    """Memory of a process and its children that lies in RAM; a child that ends meanwhile counts nothing."""
    total, parent = 0.0, psutil.Process(pid)
    for one in [parent, *parent.children(recursive=True)]:
        with suppress(psutil.Error):
            total += one.memory_info().rss / 1e6
    return total


@contextmanager
def served(folder: Path, config: str, *words: str) -> Iterator[str]:
    """The address of `llmops serve` on a free port, as soon as it listens."""
    command = [*LLMOPS, "serve", config, "--port", "0", *words]
    log = folder / "serve.log"
    with log.open("w+") as said:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        going = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, env=environment)
        try:
            yield _address(log)
        finally:
            going.terminate()
            going.wait(30)


def _address(log: Path) -> str:
    """The address that the server says, which is a moment before it listens there."""
    for _ in range(300):
        found = re.search(r"http://([\d.]+):(\d+)", log.read_text())
        if found is not None and _listens(found[1], int(found[2])):
            return found[0]
        time.sleep(0.1)
    raise SystemExit(log.read_text())


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
