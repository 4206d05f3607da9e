"""Text files of unknown make: which encoding, and lines that can't exhaust the memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from llmops.core.errors import DataError

LONGEST_LINE = 1_000_000  # characters; a longer line is no row of text
SAMPLE = 1 << 16  # bytes shown to the encoding detector; more makes it slow, not better
CHUNK = 1 << 20
STRAY_SHARE = 0.02  # of the lines beyond ASCII: when no more than this are not UTF-8, the file is UTF-8 with flaws
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PACKED = (b"PK\x03\x04", b"PAR1", b"%PDF", b"\x1f\x8b")
NOT_IN_TEXT = [bytes([code]) for code in range(32) if code not in b"\t\n\v\f\r\x1a\x1b"]


@dataclass(frozen=True)
class Encoding:
    """A file's encoding; `found`: it was guessed from the bytes, and is not UTF-8."""

    name: str
    found: bool = False


@dataclass(frozen=True)
class Line:
    """One line with its ending, `number` from 1. `problem` is a reason why it can't be used, or empty."""

    number: int
    text: str
    problem: str = ""


def must_be_file(path: Path, name: str) -> None:
    """Raise DataError when `path` is missing, no file, unreadable or empty."""
    if path.is_dir():
        raise DataError(f"{name} is a folder, not a file.", where=str(path), do="name the file inside it")
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except FileNotFoundError:
        raise DataError(f"there is no file {name}.", where=str(path), do=_nearby(path)) from None
    except OSError as error:
        raise DataError(
            f"{name} can't be read: {error.strerror}.", where=str(path), do="check its permissions"
        ) from None
    if empty:
        raise DataError(f"{name} is empty.", where=str(path), do="export the data again; the file has no bytes")


def _nearby(path: Path) -> str:
    from difflib import get_close_matches

    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1)
    return f"did you mean `{near[0]}`?" if near else "check the path; relative ones start at the project's root"


def find_encoding(path: Path, name: str, told: str | None = None) -> Encoding:
    """The encoding of a file: the one that the config tells, a byte order mark's, UTF-8 when the bytes allow it,
    else charset-normalizer's guess. Raises DataError for binary files and for a told encoding that can't be."""
    with path.open("rb") as stream:
        head = stream.read(SAMPLE)
    if told is not None:
        _must_decode(path, name, told)
        return Encoding("utf-8-sig" if codecs.lookup(told).name == "utf-8" else told)
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return Encoding(encoding)
    if head.startswith(PACKED) or sum(map(head.count, NOT_IN_TEXT)) > len(head) * 0.02:
        guess = _guess(head) if head.count(0) > len(head) * 0.2 else None
        if guess is None or not guess.startswith("utf_16"):
            raise DataError(
                f"{name} is not a text file (it has {head.count(0)} NUL bytes, or the mark of a packed format).",
                where=str(path),
                do="unpack it or export it as CSV or JSONL in UTF-8",
            )
        return Encoding(guess, found=True)
    strays = _not_utf8(path)
    if not strays.sample or strays.bad <= strays.beyond_ascii * STRAY_SHARE:
        return Encoding("utf-8")
    guess = _guess(strays.sample)
    if guess is None:
        raise DataError(
            f"{name} is neither UTF-8 nor any other text encoding that could be recognised.",
            where=f"{path}:{strays.first}",
            do="write `encoding:` in the source's long form, or save the file as UTF-8",
        )
    return Encoding(guess, found=True)


NEARLY = 0.05
"""Differences of charset-normalizer's scores that a few words more could turn."""


@dataclass
class _Strays:
    """Lines that are not UTF-8: how many, the first one's number, some of their bytes."""

    bad: int = 0
    beyond_ascii: int = 0
    first: int = 0
    sample: bytes = b""


def _not_utf8(path: Path) -> _Strays:
    strays = _Strays()
    number = 1
    with path.open("rb") as stream:
        while line := stream.readline(CHUNK):
            if not line.isascii() and len(line) < CHUNK:
                strays.beyond_ascii += 1
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    strays.bad += 1
                    strays.first = strays.first or number
                    if len(strays.sample) < SAMPLE:
                        strays.sample += line
            number += line.endswith(b"\n")
    return strays


def _guess(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes

    found = from_bytes(sample)
    best = found.best()
    if best is None:
        return None
    # Where the bytes read as well in many code pages (a table of numbers has few words to tell them apart by), it is
    # the one that Windows writes in Western Europe.
    as_good = [
        match for match in found if match.chaos <= best.chaos + NEARLY and match.coherence >= best.coherence - NEARLY
    ]
    usual = any("cp1252" in match.could_be_from_charset for match in as_good)
    return "cp1252" if usual else str(best.encoding)


def _must_decode(path: Path, name: str, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    number = 1
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                number += error.object[: error.start].count(b"\n")
                raise DataError(
                    f"{name} is not {encoding}: the bytes of line {number} don't fit it.",
                    where=f"{path}:{number}",
                    do="correct `encoding:` or leave it out; llmops finds it out by itself",
                ) from None
            number += block.count(b"\n")


def lines(path: Path, encoding: Encoding) -> Iterator[Line]:
    """The lines of a file, endings kept. Lines above LONGEST_LINE are never in memory as a whole."""
    stray = "surrogateescape" if encoding.name.startswith("utf-8") else "replace"
    with path.open(encoding=encoding.name, errors=stray, newline="") as stream:
        number = 0
        while text := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(text) > LONGEST_LINE:
                _skip_line(stream)
                yield Line(number, text[:200] + "\n", "line_too_long")
            elif "\0" in text:
                yield Line(number, text.replace("\0", "\ufffd"), "nul_byte")
            elif "\ufffd" in text if stray == "replace" else _escaped(text):
                yield Line(number, text.encode("utf-8", "replace").decode(), "undecodable")
            else:
                yield Line(number, text)


def _escaped(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _skip_line(stream: TextIO) -> None:
    while (piece := stream.readline(CHUNK)) and piece[-1] not in "\r\n":
        pass
