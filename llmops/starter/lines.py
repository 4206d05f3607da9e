"""Lines of a config that every task's draft has: YAML's quoting, comments beside settings, the source, the shares."""

from __future__ import annotations

import json
import re
from pathlib import Path

from llmops.records.readers import ENDINGS
from llmops.records.reading import Reading

UNQUOTED = re.compile(r"[A-Za-z_\u00c0-\u024f][\w.-]*")
YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
USUAL_BAD = 0.03
"""Share of bad rows that prepare's own limit takes without being told."""


def quoted(value: str) -> str:
    """A text as YAML writes it: plain when nothing can be misread."""
    plain = UNQUOTED.fullmatch(value) and value.casefold() not in YAML_WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def beside(line: str, comment: str) -> str:
    """A line with a comment in the column where comments stand."""
    return f"{line:<40} # {comment}"


def one_line(name: str) -> str:
    """A name without line breaks, for a comment."""
    return " ".join(name.split())


def source(reading: Reading, path: str, **more: str) -> str:
    """An item of `prepare.sources`: short when nothing was worked out that would have to be worked out again."""
    ending = Path(path).suffix.lower()
    long_form = [f"path: {quoted(path)}"]
    if reading.delimiter and ending not in ENDINGS:
        long_form.append("format: csv")
    if reading.delimiter not in (None, ","):
        long_form.append(f"delimiter: {json.dumps(reading.delimiter)}")
    if reading.encoding_found:
        long_form.append(f"encoding: {reading.encoding}")
    long_form += [f"{name}: {value}" for name, value in more.items()]
    return quoted(path) if len(long_form) == 1 else "{" + ", ".join(long_form) + "}"


def bad_rows(share: float, lack: str) -> list[str]:
    """`max_bad_rows`, where so many rows are bad that prepare would stop."""
    if share <= USUAL_BAD:
        return []
    allowed = min(1.0, round(1.2 * share + 0.02, 2))
    return [beside(f"  max_bad_rows: {allowed}", f"{share:.1%} of the rows {lack}")]


def held_out(rows: int) -> float:
    """The share of rows for validation, and the same for testing."""
    return 0.1 if rows >= 1000 else 0.15 if rows >= 300 else 0.2


def head(about: str, path: str, project: str) -> list[str]:
    """The first lines: what the data looks like."""
    return [
        f"# Written by `llmops init` for {one_line(path)}:",
        f"# {about}.",
        "# It works as it stands; change what you know better. Every setting: llmops explain SECTION",
        "version: 1",
        f"project: {quoted(project)}",
    ]
