"""Threads that wait sleep: the command line sets it for itself and what it starts, and a user's own word stands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmops.core.threads import WAITING

SHOW = "import os, llmops.cli as cli; cli.app = lambda: print([os.environ[name] for name in {names!r}]); cli.main()"


@pytest.mark.parametrize("own", [None, "7"])
def test_the_command_line_has_threads_wait_asleep(own: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment |= dict.fromkeys(WAITING, own) if own else {}
    command = [sys.executable, "-c", SHOW.format(names=list(WAITING))]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str([own] * len(WAITING) if own else list(WAITING.values()))
