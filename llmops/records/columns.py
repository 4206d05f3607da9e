"""One source as columns: only those that are asked for, typed by their kinds, and the rows that can't be used.

Plain CSV files are read by Arrow, some million cells a second; any doubt about a file (quotes, ragged lines, another
encoding than UTF-8) sends it to the careful reader, in pieces. Parquet is read as it lies.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.protocols import Row
from llmops.fields.kind import BadCell, Kind
from llmops.fields.rows import Columned, noted
from llmops.fields.words import as_python, as_text, one_array
from llmops.records.config import SourceSection
from llmops.records.csvreader import SNIFFED_LINES, delimiter_of
from llmops.records.readers import ENDINGS, read, source_path
from llmops.records.reading import EXCERPT, BadRow, Reading, missing_column
from llmops.records.textfiles import find_encoding, lines

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 20_000
"""Rows that stand as Python objects at once."""
CHUNK = 1 << 20
PLAIN_LINE = 1 << 16
"""Bytes; the careful reader has words for cells twice as long and longer."""
DOUBTFUL = (b'"', b"\0", b"\n\n", b"\n\r\n", b"\r\r")


@dataclass
class ColumnReading:
    """The typed columns of one source, with the note "origin"; `bad` rows are left out of them. `rows` counts both.
    `unmatched`: of a table that joins, rows whose key stands nowhere in it."""

    columns: Columned
    bad: list[BadRow]
    rows: int
    reading: Reading
    unmatched: int = 0


def read_columns(
    source: SourceSection, root: Path, kinds: Mapping[str, Kind], extra: Mapping[str, str], limit: int | None = None
) -> ColumnReading:
    """The columns of `kinds`, and those that `extra` names as notes (group, time), as texts.

    Raises DataError for what is missing, unreadable, lacks a column or has one twice.
    """
    wanted = list(dict.fromkeys([*kinds, *extra.values()]))
    fast = None if limit else _plain_csv(source, root, wanted)
    reading = fast[0] if fast else read(source, root, ())
    reading.require(wanted)
    raw, origins = fast[1:] if fast else _careful(reading, wanted, limit)
    typed, bad = _typed(raw, kinds, origins)
    for note, column in extra.items():
        typed = typed.append_column(noted(note), _as_text(raw[column]))
    typed = typed.append_column(noted("origin"), origins)
    kept = np.ones(len(origins), bool)
    kept[[place for place, _ in bad]] = False
    rows = Columned(typed) if kept.all() else Columned(typed).take(np.flatnonzero(kept))
    told = [row for _, row in bad] + reading.bad
    return ColumnReading(rows, told, len(origins) + len(reading.bad), reading)


def _typed(raw: pa.Table, kinds: Mapping[str, Kind], origins: Any) -> tuple[pa.Table, list[tuple[int, BadRow]]]:
    """The columns as their kinds read them, and each row's first bad cell."""
    import pyarrow as pa

    columns, bad = {}, {}
    for name, kind in kinds.items():
        found = kind.read_column(raw[name])
        columns[name] = found.values
        for place, reason in found.bad.items():
            if place not in bad:
                cell = str(raw[name][place].as_py())[:EXCERPT]
                bad[place] = BadRow(str(origins[place].as_py()), f"{name}: {reason}", f"`{cell[:40]}`", cell)
    return pa.table(columns), sorted(bad.items())


def _as_text(column: Any) -> Any:
    import pyarrow as pa

    return column if pa.types.is_string(column.type) else _texts(as_python(one_array(column)))


def _texts(cells: list[Any]) -> Any:
    """Cells of several types as text, written as the kinds of words write them: 2 and 2.0 are one code."""
    import pyarrow as pa

    return pa.array([_text(cell) for cell in cells], pa.string())


def _text(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    try:
        return as_text(cell)
    except BadCell:
        return str(cell)  # a list among words


def _plain_csv(source: SourceSection, root: Path, wanted: list[str]) -> tuple[Reading, pa.Table, Any] | None:
    """A CSV file without quotes, read by Arrow; None for any other source, and where a line is ragged."""
    path = source_path(source, root)
    if path is None or not path.is_file() or (source.format, ENDINGS.get(path.suffix.lower())) not in (
        ("auto", "csv"), ("csv", "csv"), ("csv", None),
    ):  # fmt: skip
        return None
    encoding = find_encoding(path, source.path, source.encoding)
    if encoding.name not in ("utf-8", "utf-8-sig", "ascii") or not _is_plain(path):
        return None
    import pyarrow as pa
    from pyarrow import csv

    delimiter, skip = delimiter_of(list(islice(lines(path, encoding), SNIFFED_LINES)), source.delimiter)
    header = next(islice(lines(path, encoding), skip, None)).text.rstrip("\r\n").lstrip("\ufeff").split(delimiter)
    names = [name.strip() for name in header]
    if len(set(names)) < len(names) or not all(names) or not set(wanted) <= set(names):
        return None  # the careful reader has words for these
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(column_names=names, skip_rows=skip + 1, block_size=16 * CHUNK),
            csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=wanted, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    if _has_no_rows(table):
        return None
    reading = Reading(source.path, iter(()), names, [], encoding.name, encoding.found, delimiter)
    numbers = np.arange(skip + 2, skip + 2 + table.num_rows)
    return reading, table, _origins(source.path, numbers)


def _is_plain(path: Path) -> bool:
    """Whether a file is UTF-8 without quotes, NULs, blank lines and very long ones, so that each line is one row."""
    last, decoder = b"", codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as stream:
        while piece := stream.read(PLAIN_LINE):
            whole = last + piece
            if any(sign in whole for sign in DOUBTFUL) or (len(piece) == PLAIN_LINE and b"\n" not in piece):
                return False
            try:
                decoder.decode(piece)
            except UnicodeDecodeError:
                return False
            last = piece[-2:]
    return not decoder.getstate()[0]


def _has_no_rows(table: pa.Table) -> bool:
    """Whether some line may be no row: nothing but delimiters, as spreadsheets leave them below a table, or the header
    once more, as files have it that were put end to end."""
    import pyarrow.compute as pc

    empty = header = np.ones(table.num_rows, bool)
    for name in table.column_names:
        empty = empty & pc.equal(table[name], "").to_numpy()
        header = header & pc.equal(table[name], name).to_numpy()
    return bool((empty | header).any())


def _origins(name: str, numbers: Iterable[int]) -> Any:
    """ "file:line" of each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(name, pa.array(numbers, pa.int64()).cast(pa.string()), ":")


def _careful(reading: Reading, wanted: list[str], limit: int | None) -> tuple[pa.Table, Any]:
    """Rows of any reader in pieces, as untyped columns."""
    import pyarrow as pa

    names: set[str] = set()
    pieces = [_piece(rows, wanted, names) for rows in _pieces(islice(reading, limit))]
    if reading.columns is None and pieces and (lacking := [name for name in wanted if name not in names]):
        raise missing_column(lacking[0], sorted(names), reading.name)
    if not pieces:
        return pa.table({name: pa.array([], pa.string()) for name in wanted}), pa.array([], pa.string())
    columns = {name: _end_to_end([piece[0][name] for piece in pieces]) for name in wanted}
    origins = pa.chunked_array([piece[1] for piece in pieces]).combine_chunks()
    return pa.table(columns), origins


def _pieces(rows: Iterator[tuple[Row, str]]) -> Iterator[list[tuple[Row, str]]]:
    while piece := list(islice(rows, PIECE)):
        yield piece


def _piece(rows: list[tuple[Row, str]], wanted: list[str], names: set[str]) -> tuple[dict[str, Any], Any]:
    """Rows as columns with their origins; `names` gathers what the rows hold."""
    import pyarrow as pa

    names.update(*(row for row, _ in rows))
    columns = {name: _array([row.get(name) for row, _ in rows]) for name in wanted}
    return columns, pa.array([origin for _, origin in rows], pa.string())


def _array(cells: list[Any]) -> Any:
    """Cells of one type as they are; of several (JSON knows no columns), as text."""
    import pyarrow as pa

    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return _texts(cells)


def _end_to_end(parts: list[Any]) -> Any:
    """The pieces of one column; as text where they differ in type."""
    import pyarrow as pa

    types = {part.type for part in parts if not pa.types.is_null(part.type)}
    if len(types) > 1:
        parts = [_as_text(part) for part in parts]
        types = {pa.string()}
    kind = types.pop() if types else pa.string()
    return pa.chunked_array([part.cast(kind) for part in parts]).combine_chunks()
