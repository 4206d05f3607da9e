"""Pace: how long batches take here, learnt from those computed; and which of the waiting requests go together best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

FADES = 0.95
"""What an observation still counts after the next one."""
GUESS = (0.001, 0.0001)
"""Seconds of a batch and of one cell, before anything is known; as heavy as one observation."""
GUESSED_CELLS = (16, 256)
MANY = 1_000_000
"""More rows than any queue has."""


@dataclass
class Pace:
    """Seconds of a batch = `start` + `cell` * cells, where cells are rows times the longest of them: a line by least
    squares through the batches computed so far, of which old ones fade."""

    start: float = GUESS[0]
    cell: float = GUESS[1]
    learnt: int = 0
    """Batches seen."""
    _sums: list[float] = field(default_factory=lambda: [0.0] * 5, repr=False)

    def __post_init__(self) -> None:
        for cells in GUESSED_CELLS:
            self._add(cells, GUESS[0] + GUESS[1] * cells)

    def learn(self, cells: int, seconds: float) -> None:
        """A batch of so many cells took so long."""
        self.learnt += 1
        self._sums = [value * FADES for value in self._sums]
        self._add(cells, seconds)
        count, x, y, xx, xy = self._sums
        spread = count * xx - x * x
        slope = (count * xy - x * y) / spread if spread > 1e-9 * count * xx else 0.0
        self.cell = min(max(slope, 0.0), y / x)
        self.start = max(y - self.cell * x, 0.0) / count

    def seconds(self, rows: int, longest: int) -> float:
        """How long such a batch should take."""
        return self.start + self.cell * rows * longest

    def rows(self, longest: int, target_s: float) -> int:
        """How many rows a batch may have to be computed within `target_s`, at least one. Where already its start takes
        most of that, another number would not help, and all may join."""
        if 2 * self.start > target_s:
            return MANY
        each = self.cell * longest
        return max(int((target_s - self.start) / each), 1) if each * MANY > target_s else MANY

    def _add(self, cells: float, seconds: float) -> None:
        weight = 1 / cells  # or a few large batches would hide what a small one takes
        for place, value in enumerate((1.0, cells, seconds, cells * cells, cells * seconds)):
            self._sums[place] += weight * value


def together(sizes: Sequence[int], most: int, pace: Pace, target_s: float) -> list[int]:
    """The places of those that make the next batch: the first, which has waited longest, and at most `most` - 1 others.

    All are padded to the longest, so company is worth its time only where it is of like size: taken are those with
    which the most cells that are no padding are computed in a second, within `target_s` where a batch can be.
    """
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    first = order.index(0)
    best, best_rate = [0], 0.0
    for high in range(first, min(first + most, len(order))):
        longest = sizes[order[high]]
        rows = min(most, pace.rows(longest, target_s))
        if high - first >= rows:
            break
        more = high + 1 < len(order) and sizes[order[high + 1]] == longest and high + 1 - first < rows
        if more:
            continue  # the same padding for more company
        low, cells = high + 1, 0
        while low > max(0, high + 1 - rows):
            size = sizes[order[low - 1]]
            if low <= first and size * pace.seconds(high + 1 - low, longest) < cells * pace.cell * longest:
                break
            low, cells = low - 1, cells + size
        seconds = pace.seconds(high + 1 - low, longest)
        alone = pace.start * (high + 1 - low) + pace.cell * cells
        rate = cells / max(seconds, 1e-9)
        if rate > best_rate and seconds <= alone:
            best, best_rate = order[low : high + 1], rate
    return best
