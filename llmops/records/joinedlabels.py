"""Finds out whether the cells of a label column hold several labels, joined by a separator, or one label each.

Nobody can be sure: `Books, magazines` may be one class. The parts tell: labels that are joined turn up again, alone or
in other company, so that there are fewer labels than cells; the parts of one class's name hardly ever do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

SEPARATORS = (";", "|", ",")
KNOWN = 0.8
"""Share of joined rows whose parts must all turn up in other cells, for their cells to be several labels each."""
SOME = 0.02
"""Share of rows with a separator from which a mere doubt is worth a word."""


@dataclass(frozen=True)
class Joined:
    """What cells with a `separator` look like. `several`: they hold several labels, else it may be so. `labels` are the
    rows of each part, `cells` how many different cells there are; `example` is the most frequent joined one."""

    separator: str
    several: bool
    labels: Counter[str]
    cells: int
    example: str

    def warning(self) -> str | None:
        """What a config should be warned of that takes each cell for one label; None where that may well be."""
        if not self.several:
            return None
        return (
            f"labels such as `{self.example}` are taken for one label each, and look like several, joined by "
            f"`{self.separator}` ({self.cells:,} different ones made of {len(self.labels):,} labels); if so, write "
            f'`labels: many, separator: "{self.separator}"` in `task:`'
        )


def find_joined(cells: Mapping[str, int]) -> Joined | None:
    """What the cells of a label column look like, `cells` being the rows of each; None where hardly any holds a
    separator. Of several separators the one that makes the fewest labels of them, where they hold several."""
    found = [one for separator in SEPARATORS if (one := _looked_at(cells, separator)) is not None]
    return max(found, key=lambda one: (one.several, -len(one.labels), sum(one.labels.values())), default=None)


def _looked_at(cells: Mapping[str, int], separator: str) -> Joined | None:
    parts = {cell: [part for part in map(str.strip, cell.split(separator)) if part] for cell in cells}
    joined = [cell for cell, found in parts.items() if len(found) > 1]
    rows = sum(cells[cell] for cell in joined)
    stands_in = Counter(part for found in parts.values() for part in set(found))
    known = sum(cells[cell] for cell in joined if all(stands_in[part] > 1 for part in parts[cell]))
    labels = Counter[str]()
    for cell, found in parts.items():
        labels.update(dict.fromkeys(found, cells[cell]))
    several = bool(joined) and known >= KNOWN * rows and len(labels) < len(cells)
    if not joined or not (several or rows >= SOME * sum(cells.values())):
        return None
    return Joined(separator, several, labels, len(cells), max(joined, key=lambda cell: cells[cell]))
