"""JSON files: an array of objects, or one object a line as in JSONL. The array is held in memory, as JSON asks.

An item's origin is the line on which it begins; where several begin on one line, also its number as jq counts (`.[7]`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.jsonlreader import read_jsonl
from llmops.records.reading import EXCERPT, BadRow, Reading
from llmops.records.textfiles import CHUNK, Encoding, find_encoding, must_be_file

SAMPLED_ITEMS = 100
BETWEEN = re.compile(r"[\s,]*")
"""What lies between the items of an array. A comma too many is not worth a refusal."""


def read_json(path: Path, name: str, source: SourceSection) -> Reading:
    """A JSON file. Raises DataError when it is missing, empty or binary, and, while it is read, where the array is
    broken: what follows a broken item cannot be told apart."""
    must_be_file(path, name)
    encoding = find_encoding(path, name, source.encoding)
    if not _is_array(path, encoding):
        return read_jsonl(path, name, source)
    text = path.read_bytes().decode(encoding.name, _stray(encoding))
    bad: list[BadRow] = []
    return Reading(
        name=name,
        rows=_rows(text, path, name, encoding, bad),
        columns=_keys(text, path),
        bad=bad,
        encoding=encoding.name,
        encoding_found=encoding.found,
    )


def _is_array(path: Path, encoding: Encoding) -> bool:
    """Whether the first character that says anything is a bracket."""
    with path.open(encoding=encoding.name, errors="replace") as stream:
        while block := stream.read(CHUNK):
            if said := block.lstrip("\ufeff \t\r\n"):
                return said.startswith("[")
    return False


def _stray(encoding: Encoding) -> str:
    """How bytes that don't fit the encoding are marked, so that they cost their row only."""
    return "surrogateescape" if encoding.name.startswith("utf-8") else "replace"


def _keys(text: str, path: Path) -> list[str] | None:
    """The keys of the first objects; None when no item of the sample is an object."""
    found: dict[str, None] = {}
    try:
        for item, _, _ in islice(_items(text, path), SAMPLED_ITEMS):
            found.update(dict.fromkeys(item) if isinstance(item, dict) else {})
    except DataError:
        pass  # told when the rows are read, with what stands before it
    return list(found) or None


def _rows(text: str, path: Path, name: str, encoding: Encoding, bad: list[BadRow]) -> Iterator[tuple[Row, str]]:
    last = 0
    for number, (item, line, raw) in enumerate(_items(text, path)):
        origin = f"{name}:{line}" if line != last else f"{name}:{line}[{number}]"
        last = line
        if _undecodable(raw, encoding):
            bad.append(BadRow(origin, "undecodable", "", raw[:EXCERPT].encode("utf-8", "replace").decode()))
        elif isinstance(item, dict):
            yield item, origin
        else:
            bad.append(BadRow(origin, "unreadable_line", "not a JSON object", raw[:EXCERPT]))


def _undecodable(raw: str, encoding: Encoding) -> bool:
    if _stray(encoding) == "replace":
        return "\ufffd" in raw
    return not raw.isascii() and any("\udc80" <= character <= "\udcff" for character in raw)


def _items(text: str, path: Path) -> Iterator[tuple[Any, int, str]]:
    """(item, the number of its first line, its text) of an array."""
    decoder, line, counted = json.JSONDecoder(), 1, 0
    at = text.index("[") + 1
    while True:
        at = _after(text, at)
        line, counted = line + text.count("\n", counted, at), at
        if text.startswith("]", at):
            return
        try:
            item, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise _broken(path, line, text[at:], error) from None
        yield item, line, text[at:end]
        at = end


def _after(text: str, at: int) -> int:
    found = BETWEEN.match(text, at)
    assert found is not None  # it matches the empty string too
    return found.end()


def _broken(path: Path, line: int, rest: str, error: Exception) -> DataError:
    if not rest:
        what, do = "the JSON array has no end", "export it again; the file was cut off"
    else:
        said = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        inside = error.lineno if isinstance(error, json.JSONDecodeError) else line
        what = f"the item that begins here is not JSON: {said} (line {inside})"
        do = "mend it; a comma or a quote is missing, or the file was cut off"
    return DataError(f"{path.name}: {what}.", where=f"{path}:{line}", do=do, snippet=rest[:EXCERPT])
