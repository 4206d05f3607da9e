"""Plain text, which has no columns: a row is a paragraph, a line or a whole file, and knows its document and place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.folderreader import text_files
from llmops.records.reading import EXCERPT, BadRow, Reading
from llmops.records.textfiles import Line, find_encoding, lines, must_be_file

CARRIED = ("document_id", "part")
"""Which file a row is from, and its number within it (from 1): rows of one document can be put together again."""


Cut = Callable[[Iterable[Line]], Iterator["Part"]]


@dataclass(frozen=True)
class Part:
    """A piece of a file: the number of its first line with words, its text, and why it can't be used (or empty)."""

    line: int
    text: str
    problem: str = ""


def read_text(path: Path, name: str, source: SourceSection, column: str) -> Reading:
    """A text file, or all text files below a folder, sorted. Rows hold the text as `column`.

    A row ends with the line ends that follow it in the file, blank lines included, so that the rows of a document put
    together are the document. Raises DataError when the file is missing, empty or binary, or the folder has no text
    file.
    """
    bad: list[BadRow] = []
    columns = [column, *CARRIED]
    cut = UNITS[source.rows]
    if path.is_dir():
        files = text_files(path)
        if not files:
            raise DataError(
                f"there is no text file in the folder {name}.", where=str(path), do="text files end with .txt or .md"
            )
        rows = (found for file in files for found in _inside(file, path, name, source, column, cut, bad))
        return Reading(name=name, rows=rows, columns=columns, bad=bad, carries=CARRIED)
    must_be_file(path, name)
    encoding = find_encoding(path, name, source.encoding)
    return Reading(
        name=name,
        rows=_rows(cut(lines(path, encoding)), name, column, bad),
        columns=columns,
        bad=bad,
        encoding=encoding.name,
        encoding_found=encoding.found,
        carries=CARRIED,
    )


def _inside(
    file: Path, folder: Path, name: str, source: SourceSection, column: str, cut: Cut, bad: list[BadRow]
) -> Iterator[tuple[Row, str]]:
    """The rows of one file of a folder; one that can't be read is one bad row."""
    document = f"{name}/{file.relative_to(folder).as_posix()}"
    try:
        must_be_file(file, document)
        encoding = find_encoding(file, document, source.encoding)
    except DataError as error:
        bad.append(BadRow(f"{document}:1", "unreadable_file", str(error)))
        return
    yield from _rows(cut(lines(file, encoding)), document, column, bad)


def _rows(parts: Iterator[Part], document: str, column: str, bad: list[BadRow]) -> Iterator[tuple[Row, str]]:
    for number, part in enumerate(parts, 1):
        if part.problem:
            bad.append(BadRow(f"{document}:{part.line}", part.problem, "", part.text[:EXCERPT]))
        else:
            yield {column: part.text, "document_id": document, "part": number}, f"{document}:{part.line}"


def _cut(found: Iterable[Line], ends: Callable[[str], bool]) -> Iterator[Part]:
    """Lines put together. `ends` is asked when a line with words follows one (its argument): is the part complete
    there? Blank lines belong to the part before them, those at the beginning of a file to the first."""
    held: list[str] = []
    first, problem, words = 1, "", False
    for line in found:
        text = line.text.lstrip("\ufeff") if line.number == 1 else line.text
        text = text[:-2] + "\n" if text.endswith("\r\n") else text
        if words and text.strip() and ends(held[-1]):
            yield Part(first, "".join(held), problem)
            held, problem, words = [], "", False
        if not words and text.strip():
            first = line.number
        held.append(text)
        problem = problem or line.problem
        words = words or bool(text.strip())
    if held:
        yield Part(first, "".join(held), problem if words else "missing_value")


UNITS: dict[str, Cut] = {
    "paragraphs": lambda found: _cut(found, lambda line: not line.strip()),
    "lines": lambda found: _cut(found, lambda line: True),
    "file": lambda found: _cut(found, lambda line: False),
}
"""How a file is cut, by `SourceSection.rows`."""
