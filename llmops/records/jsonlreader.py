"""JSONL files: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.reading import EXCERPT, BadRow, Reading
from llmops.records.textfiles import Encoding, find_encoding, lines, must_be_file

SAMPLED_LINES = 100


def read_jsonl(path: Path, name: str, source: SourceSection) -> Reading:
    """A JSONL file. Raises DataError when it is missing, empty, binary, or one big JSON array."""
    must_be_file(path, name)
    encoding = find_encoding(path, name, source.encoding)
    sample = [line.text.lstrip("\ufeff").strip() for line in islice(lines(path, encoding), SAMPLED_LINES)]
    if next(filter(None, sample), "").startswith("["):
        raise DataError(
            f"{name} is a JSON array, not JSONL.",
            where=f"{path}:1",
            do="write the source in its long form with `format: json`, or one object a line",
        )
    bad: list[BadRow] = []
    return Reading(
        name=name,
        rows=_rows(path, name, encoding, bad),
        columns=_keys(sample),
        bad=bad,
        encoding=encoding.name,
        encoding_found=encoding.found,
    )


def _keys(sample: list[str]) -> list[str] | None:
    """The keys of the first objects; None when no line of the sample is an object (rows speak for themselves then)."""
    found: dict[str, None] = {}
    for text in sample:
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
            found.update(dict.fromkeys(value) if isinstance(value, dict) else {})
    return list(found) or None


def _rows(path: Path, name: str, encoding: Encoding, bad: list[BadRow]) -> Iterator[tuple[Row, str]]:
    for line in lines(path, encoding):
        origin, text = f"{name}:{line.number}", line.text.lstrip("\ufeff").strip()
        if line.problem:
            bad.append(BadRow(origin, line.problem, "", text[:EXCERPT]))
        elif text:
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                bad.append(BadRow(origin, "unreadable_line", f"not JSON: {error}", text[:EXCERPT]))
                continue
            if isinstance(row, dict):
                yield row, origin
            else:
                bad.append(BadRow(origin, "unreadable_line", "not a JSON object", text[:EXCERPT]))
