"""history.jsonl: every move of the champion pointer, appended and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

NAME = "history.jsonl"


def read(registry_dir: Path) -> list[dict[str, Any]]:
    """Every line, oldest first. A line that a kill tore is left out."""
    try:
        text = (registry_dir / NAME).read_text()
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def append(registry_dir: Path, line: dict[str, Any]) -> None:
    """Add one line, on the disk when this returns. A torn last line gets its end first."""
    with (registry_dir / NAME).open("ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def previous(lines: list[dict[str, Any]], now: int | None, kept: Collection[int]) -> int | None:
    """The champion before version `now`, among the versions that are `kept`.

    Promotions pile up and a rollback takes them off again, so that rolling back twice goes two versions back,
    and not back and forth between two.
    """
    pile: list[int] = []
    for line in lines:
        number = line["version"]
        if line["action"] == "rollback" and number in pile:
            while pile[-1] != number:
                pile.pop()
        elif not pile or pile[-1] != number:
            pile.append(number)
    earlier = [number for number in pile if number in kept and number != now]
    return earlier[-1] if earlier else None
