"""Documents to passages: cut between paragraphs, and between sentences where a paragraph is too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llmops.core.errors import DataError
from llmops.records.textfiles import find_encoding, must_be_file
from llmops.tasks.answering.entries import Entry, entry

ENDINGS = (".txt", ".text", ".md", ".markdown")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")


def read_documents(place: Path, words: int) -> list[Entry]:
    """The passages of a file, or of all text files below a folder, each with its file and heading as source.

    Raises DataError when there is nothing to read, or a file is no text.
    """
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if _readable(path))
    if not files:
        what = "a folder without text files" if place.is_dir() else "not there"
        raise DataError(
            f"{place} is {what}.", "task.documents", f"give a folder with files that end in {', '.join(ENDINGS)}."
        )
    root = place.parent if place.is_file() else place
    return [found for path in files for found in _passages(path, path.relative_to(root).as_posix(), words)]


def _readable(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def _passages(path: Path, name: str, words: int) -> Iterator[Entry]:
    must_be_file(path, name)
    text = path.read_text(encoding=find_encoding(path, name).name, errors="replace").removeprefix("\ufeff")
    for heading, passage in split_document(text, words):
        source = f"{name} # {heading}" if heading else name
        # the heading often holds the very words that a question uses
        yield entry(f"{heading}\n{passage}" if heading else passage, source)


def split_document(text: str, words: int) -> Iterator[tuple[str, str]]:
    """(heading, passage) in their order; a passage has at most `words` words, and paragraphs of one heading share a
    passage as long as they fit."""
    heading, size = "", 0
    kept: list[str] = []
    for paragraph in _paragraphs(text):
        found = HEADING.match(paragraph)
        pieces = [] if found else list(_pieces(paragraph, words))
        for piece in pieces:
            length = len(piece.split())
            if kept and size + length > words:
                yield heading, "\n".join(kept)
                kept, size = [], 0
            kept.append(piece)
            size += length
        if found:
            if kept:
                yield heading, "\n".join(kept)
            heading, kept, size = found[1], [], 0
    if kept:
        yield heading, "\n".join(kept)


def _paragraphs(text: str) -> Iterator[str]:
    """Blocks between empty lines; a heading is a block of its own."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        bare = line.strip()
        if bare and not HEADING.match(bare):
            block.append(bare)
            continue
        if block:
            yield " ".join(block)
            block = []
        if bare:
            yield bare


def _pieces(paragraph: str, words: int) -> Iterator[str]:
    """A paragraph in pieces of at most `words` words: whole sentences as long as they fit."""
    piece: list[str] = []
    for sentence in SENTENCE_END.split(paragraph):
        parts = sentence.split()
        if piece and len(piece) + len(parts) > words:
            yield " ".join(piece)
            piece = []
        piece += parts
        while len(piece) > words:
            yield " ".join(piece[:words])
            piece = piece[words:]
    if piece:
        yield " ".join(piece)
