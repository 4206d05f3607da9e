"""Runs a command in a terminal of 100 columns and draws what stood there as SVG.

python docs/picture.py docs/run.svg llmops run configs/support.yaml
"""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
CURSOR = re.compile(r"\x1b\[\??[0-9;]*[A-HJKSTfhlnsu]")


def recorded(command: list[str]) -> str:
    """Everything the command wrote to its terminal."""
    os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    parts: list[bytes] = []

    def read(handle: int) -> bytes:
        part = os.read(handle, 4096)
        parts.append(part)
        return part

    pty.spawn(command, read)
    return b"".join(parts).decode(errors="replace")


def settled(text: str) -> list[str]:
    """The lines that stay: of a line that was drawn again and again only the last state, and no bars."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        last = CURSOR.sub("", line.split("\r")[-1])
        if "━" not in last:
            lines.append(last)
    return lines


def main() -> None:
    """Record, draw, write."""
    target, command = Path(sys.argv[1]), sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ {' '.join(command)}"), style="bold")
    for line in settled(recorded(command)):
        console.print(Text.from_ansi(line))
    target.write_text(console.export_svg(title="llmops"))


if __name__ == "__main__":
    main()
