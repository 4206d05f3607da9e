"""Threads take memory from one place when they are told to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ARENAS = """
import ctypes, threading
from llmops.core.heap import share_memory
{first}
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
all_there = threading.Barrier(4)
def take():
    libc.malloc(1000)
    all_there.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no arenas")
@pytest.mark.parametrize(("first", "one"), [("share_memory()", True), ("", False)])
def test_threads_take_memory_from_one_place(first: str, one: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", ARENAS.format(first=first)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    assert (said.count("Arena ") == 1) is one, said
