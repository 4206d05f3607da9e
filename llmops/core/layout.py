"""How a table fits a terminal: which columns stand side by side, how wide each is, where headings break."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmops.core.report import Table, cell

GAP, EDGES = 3, 2
"""Blanks between two columns, and at both ends of a line."""
LONGEST_WORD = 24
"""A word of a cell (a path, an id) that is longer may be broken; a heading's and a number never are."""


@dataclass(frozen=True)
class Column:
    """A column of the table with its place in it; `heading` has a line break wherever it is wrapped."""

    index: int
    heading: str
    width: int
    numeric: bool


def laid_out(table: Table, width: int) -> list[list[Column]]:
    """The table's columns as they fit into `width` characters: one list, or, where not all fit side by side, several
    of which each begins with the first column."""
    narrow = [_narrowest(table, index) for index in range(len(table.columns))]
    room = width - EDGES
    return [_widened(table, part, narrow, room) for part in _parts(narrow, room)]


def _parts(narrow: Sequence[int], width: int) -> list[list[int]]:
    """Places of the columns that stand side by side, as many as fit at their narrowest."""
    parts: list[list[int]] = [[]]
    for index in range(len(narrow)):
        there = parts[-1]
        if len(there) > 1 and sum(narrow[one] + GAP for one in there) + narrow[index] > width:
            parts.append([0, index])
        else:
            there.append(index)
    return parts


def _widened(table: Table, part: Sequence[int], narrow: Sequence[int], width: int) -> list[Column]:
    """The columns as wide as they would like to be, the widest made narrower until all fit."""
    widths = {index: max(narrow[index], _widest(table, index)) for index in part}
    while sum(widths.values()) + GAP * (len(part) - 1) > width:
        wide = max((index for index in part if widths[index] > narrow[index]), key=widths.__getitem__, default=None)
        if wide is None:
            break
        widths[wide] -= 1
    return [
        Column(index, wrapped(table.columns[index], widths[index]), widths[index], _numeric(table, index))
        for index in part
    ]


def _numeric(table: Table, index: int) -> bool:
    return bool(table.rows) and all(isinstance(row[index], int | float | None) for row in table.rows)


def _narrowest(table: Table, index: int) -> int:
    """The width below which a word would break."""
    heading = max(map(_cells, pieces(table.columns[index])), default=0)
    if _numeric(table, index):
        return max(heading, _widest_cell(table, index))
    words = (word for row in table.rows for word in cell(row[index]).split())
    return max(heading, min(LONGEST_WORD, max(map(_cells, words), default=0)), 1)


def _widest(table: Table, index: int) -> int:
    return max(_cells(table.columns[index]), _widest_cell(table, index))


def _widest_cell(table: Table, index: int) -> int:
    return max((_cells(line) for row in table.rows for line in cell(row[index]).split("\n")), default=0)


def pieces(heading: str) -> list[str]:
    """What a heading may be broken between: after a blank, an underscore, a hyphen."""
    return re.findall(r"[^\s_-]*[_-]+|[^\s_-]+\s*|\s+", heading)


def wrapped(heading: str, width: int) -> str:
    """A heading in lines of at most `width` characters, where its pieces let it."""
    lines = [""]
    for piece in pieces(heading):
        if lines[-1] and _cells((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _cells(text: str) -> int:
    """Places that a text takes on a terminal; a Chinese character takes two."""
    from rich.cells import cell_len

    return cell_len(text)
