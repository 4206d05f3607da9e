"""Nearness: rows that all but agree, where rows have one input whose kind knows what that means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.protocols import Row, Rows
from llmops.fields.kind import Kind


class Nearness:
    """Rows taken in so far; `offer` and `twin` find the earliest that a row is near to."""

    def __init__(self, name: str, kind: Kind, similarity: float) -> None:
        self.name, self.kind, self.similarity = name, kind, similarity
        self.index: Any = None

    @classmethod
    def of(cls, inputs: Mapping[str, Kind], similarity: float | None) -> Nearness | None:
        """None where nobody asks for it, where rows have several inputs (two alike applicants are two people), and
        where the one input's kind has no nearness."""
        if similarity is None or len(inputs) != 1:
            return None
        [(name, kind)] = inputs.items()
        return None if kind.near(similarity, []) is None else cls(name, kind, similarity)

    def expect(self, rows: Rows) -> None:
        """Rows to come; the first ones tell what is rare."""
        if self.index is None:
            self.index = self.kind.near(self.similarity, [self.kind.key(value) for value in rows.values(self.name)])

    def offer(self, row: Row) -> Row | None:
        """The earliest twin of a row; without one the row is taken in, and None is returned."""
        twin: Row | None = self.index.offer(self.kind.key(row[self.name]), row)
        return twin

    def twin(self, row: Row) -> Row | None:
        """The earliest twin of a row, or None."""
        found: Row | None = None if self.index is None else self.index.twin(self.kind.key(row[self.name]))
        return found
