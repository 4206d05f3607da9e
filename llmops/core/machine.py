"""This machine: its processor, where what was found out or compiled for it is kept, and how our processes start."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import llmops


def processor() -> bytes:
    """The processor's name and abilities: -march=native goes by them."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor().encode()
    lines = path.read_bytes().splitlines()
    return b"\n".join(sorted({line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}))


def signature() -> str:
    """A short name of the kind of processor: equal where programs run alike."""
    return hashlib.sha256(processor()).hexdigest()[:12]


def environment() -> dict[str, str]:
    """What a process of our own is started with, so that it runs the very code that runs here, also from a checkout
    that is not installed."""
    paths = [str(Path(llmops.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def folder() -> Path:
    """Where such things are kept for this user. Raises OSError for a folder that others could write into."""
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmops"
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = found.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o002:
        raise OSError(f"{found} is open to others")
    return found
