"""Reading: the rows of one source with where each came from, and the rows that could not be read with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from llmops.core.errors import DataError
from llmops.core.protocols import Row

EXCERPT = 200  # characters of an unreadable line that dropped.jsonl keeps


@dataclass(frozen=True)
class BadRow:
    """A row that can't be used: where it stands ("file:line"), the reason (one of a few, so that they can be
    counted), more of it in words, and the beginning of its text."""

    origin: str
    reason: str
    detail: str = ""
    text: str = ""


@dataclass
class Reading:
    """One source, read as it is iterated: yields (row, origin). `bad` fills up on the way.

    `columns` are the names found (None where each row has its own); `encoding` is that of a text file, and
    `encoding_found` says that it was worked out and is not UTF-8. `carries` are columns that the reader made up, which
    examples keep whatever the task makes of a row (the document that a paragraph is a part of).
    """

    name: str
    rows: Iterator[tuple[Row, str]]
    columns: list[str] | None = None
    bad: list[BadRow] = field(default_factory=list)
    encoding: str | None = None
    encoding_found: bool = False
    delimiter: str | None = None
    duplicated: frozenset[str] = frozenset()
    carries: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[Row, str]]:
        return self.rows

    def require(self, columns: list[str]) -> None:
        """Raise DataError when one of `columns` is not there or stands twice."""
        for column in columns:
            if self.columns is not None and column not in self.columns:
                raise missing_column(column, self.columns, self.name)
            if column in self.duplicated:
                raise DataError(
                    f"the column `{column}` stands more than once in {self.name}.",
                    where=f"{self.name}:1",
                    do="rename or remove one of them; llmops can't know which is meant",
                )


def missing_column(column: str, columns: list[str], where: str) -> DataError:
    """The error for a column that a source lacks, with the nearest name that it has."""
    lower = {name.casefold(): name for name in columns}
    near = get_close_matches(column.casefold(), lower, n=1, cutoff=0.6)
    hint = f"did you mean `{lower[near[0]]}`?  " if near else ""
    shown = ", ".join(f"`{name}`" for name in columns[:20]) or "none"
    return DataError(
        f"{where} has no column `{column}`.",
        where=f"{where}:1",
        do=f"{hint}The columns are {shown}; name one in the config",
    )
