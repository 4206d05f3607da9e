"""Rows: what travels through the stages, a split or all that was read. Stages know only this.

A whole split is asked for a field at a time, and for single rows only where one row is meant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[Any, np.dtype[np.int64]]

Row = dict[str, Any]
"""One row: its fields by name."""


class Rows(ABC):
    """Rows in their order. Never changed: what changes them makes new ones."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, place: int) -> Row:
        """One row as a mapping of plain values."""

    @abstractmethod
    def take(self, places: Places | Sequence[int]) -> Self:
        """The rows at these places, in this order."""

    @abstractmethod
    def values(self, name: str) -> Sequence[Any]:
        """One field of all rows as plain values; None where a row has none."""

    @abstractmethod
    def with_values(self, name: str, values: Sequence[Any]) -> Self:
        """The same rows with one field more (or another one of that name)."""

    @abstractmethod
    def joined(self, others: Sequence[Self]) -> Self:
        """These rows and, after them, others of the same fields."""

    @abstractmethod
    def write(self, folder: Path, split: str) -> Path:
        """Write the rows as one file of `folder`; `read_split` reads it."""

    def __iter__(self) -> Iterator[Row]:
        return (self.row(place) for place in range(len(self)))
