"""CSV files as people export them: any delimiter, quotes that were never closed, ragged rows, Excel's `sep=` line.

The csv module parses; this file feeds it lines that it can take back, so that one broken quote costs one row and
not the rest of the file, and so that every row knows its line.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.reading import EXCERPT, BadRow, Reading
from llmops.records.textfiles import Line, find_encoding, lines, must_be_file

DELIMITERS = ",;\t|"
SNIFFED_LINES = 60
MOST_REREADS = 200  # broken quotes in one file; beyond them its quoting is not what CSV means by it


class Feed:
    """Lines for csv.reader that can be taken back: `begin` marks a record, `again` returns its lines.

    Lines with a problem are kept from the parser and go to `problems`.
    """

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self._waiting: list[Line] = []
        self.taken: list[Line] = []
        self.problems: list[Line] = []

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else next(self._source)
        while line.problem:
            self.problems.append(line)
            line = self._waiting.pop() if self._waiting else next(self._source)
        self.taken.append(line)
        return line.text

    def begin(self) -> None:
        """The next line taken starts a record."""
        self.taken = []

    def again(self, keep: int = 0) -> None:
        """Put the record's lines back, but for the first `keep`."""
        self._waiting.extend(reversed(self.taken[keep:]))
        self.taken = self.taken[:keep]


def read_csv(path: Path, name: str, source: SourceSection) -> Reading:
    """A CSV file with a header. Raises DataError when it is missing, empty, binary, or has no header or rows."""
    must_be_file(path, name)
    encoding = find_encoding(path, name, source.encoding)
    delimiter, skip = delimiter_of(list(islice(lines(path, encoding), SNIFFED_LINES)), source.delimiter)
    feed = Feed(islice(lines(path, encoding), skip, None))
    bad: list[BadRow] = []
    records = _records(feed, delimiter, name, bad)
    header = next(records, None)
    if header is None or not any(cell.strip() for cell in header[0]):
        raise DataError(
            f"{name} has no header row.", where=f"{path}:1", do="put the names of the columns into the first line"
        )
    columns = [cell.strip().lstrip("\ufeff") for cell in header[0]]
    twice = {column for column, n in Counter(columns).items() if n > 1 and column}
    return Reading(
        name=name,
        rows=_rows(records, columns, name, bad),
        columns=[column for column in columns if column],
        bad=bad,
        encoding=encoding.name,
        encoding_found=encoding.found,
        delimiter=delimiter,
        duplicated=frozenset(twice),
    )


def _rows(
    records: Iterator[tuple[list[str], int]], columns: list[str], name: str, bad: list[BadRow]
) -> Iterator[tuple[Row, str]]:
    width = len(columns)
    for cells, number in records:
        origin = f"{name}:{number}"
        while len(cells) > width and not cells[-1].strip():
            cells.pop()  # a delimiter too many at the end of the line says nothing
        if len(cells) != width:
            detail = f"{len(cells)} cells where the header has {width}"
            bad.append(BadRow(origin, "ragged_row", detail, " | ".join(cells)[:EXCERPT]))
        elif width > 1 and [cell.strip() for cell in cells] == columns:
            bad.append(BadRow(origin, "header_again", "", " | ".join(cells)[:EXCERPT]))
        elif any(cells):
            yield dict(zip(columns, cells, strict=True)), origin


def _records(feed: Feed, delimiter: str, name: str, bad: list[BadRow]) -> Iterator[tuple[list[str], int]]:
    """(cells, number of the first line) of each record; blank lines are skipped, unreadable ones go to `bad`."""
    strict = csv.reader(feed, delimiter=delimiter, strict=True)
    lenient = csv.reader(feed, delimiter=delimiter)
    parser, rereads = strict, 0
    while True:
        feed.begin()
        try:
            cells = next(parser)
        except StopIteration:
            break
        except csv.Error as error:
            if "expected after" in str(error) and parser is strict and len(feed.taken) == 1:
                feed.again()
                parser = lenient  # `"so" he said` in one cell: csv takes it when it is not strict
                continue
            rereads += 1
            _unreadable(feed, name, bad, rereads)
            parser = strict
            continue
        parser = strict
        if cells:
            yield cells, feed.taken[0].number
    bad.extend(BadRow(f"{name}:{line.number}", line.problem, "", line.text[:EXCERPT].strip()) for line in feed.problems)


def _unreadable(feed: Feed, name: str, bad: list[BadRow], rereads: int) -> None:
    """A quote that was never closed, or a cell beyond csv's limit: the record's first line is bad, reading goes on
    with the second."""
    first = feed.taken[0]
    if rereads > MOST_REREADS:
        raise DataError(
            f"{name} has more than {MOST_REREADS} quotes that are opened and never closed.",
            where=f"{name}:{first.number}",
            do='export it again so that cells with quotes are quoted and quotes doubled: "he said ""no"""',
        )
    long = len(first.text) > csv.field_size_limit()
    why = f"a cell is longer than {csv.field_size_limit():,} characters" if long else "a quote is never closed"
    bad.append(BadRow(f"{name}:{first.number}", "unreadable_line", why, first.text[:EXCERPT].strip()))
    feed.again(keep=1)


def delimiter_of(sample: list[Line], told: str | None) -> tuple[str, int]:
    """The delimiter, and how many lines to skip (Excel's `sep=;`): the candidate by which most records have the
    header's number of cells, and at least two."""
    texts = [line.text for line in sample if not line.problem and len(line.text) <= csv.field_size_limit()]
    first = texts[0].lstrip("\ufeff").strip() if texts else ""
    if first.lower().startswith("sep=") and len(first) == 5:
        return told or first[4], 1
    if told is not None:
        return told, 0
    scored = [(_fit(texts, delimiter), -rank, delimiter) for rank, delimiter in enumerate(DELIMITERS)]
    return max(scored)[2], 0


def _fit(texts: list[str], delimiter: str) -> float:
    try:
        records = [cells for cells in csv.reader(texts, delimiter=delimiter) if cells]
    except csv.Error:  # a quote that swallows more than a cell may hold
        return 0.0
    if not records or len(records[0]) < 2:
        return 0.0
    whole = records[:-1] if len(records) > 2 else records  # the sample may end within the last one
    agree = sum(len(cells) == len(records[0]) for cells in whole) / len(whole)
    return agree * (1 - 0.1 / len(records[0]))
