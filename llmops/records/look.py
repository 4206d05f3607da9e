"""A look at data that nobody described: its columns, classes, lengths and language, for a first config."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection
from llmops.records.labelcolumns import Labelled, find_labels
from llmops.records.profile import columns_of, language, text_columns
from llmops.records.readers import ENDINGS, read
from llmops.records.reading import Reading, missing_column

LOOKED_AT = 200_000  # rows
SAMPLE = 2_000  # rows by which columns and language are judged
OUTSIDE = {"out_of_scope", "outofscope", "oos"}


@dataclass(frozen=True)
class Look:
    """What was seen in the data: the texts of whole rows, the rows of each label, and the columns that these were taken
    from. `bare` rows have no label where a row may have several."""

    reading: Reading
    texts: list[str]
    labels: Counter[str]
    text: str
    label: Labelled
    other_texts: list[str]
    other_labels: list[str]
    bare: int
    bad_share: float
    language: str

    @property
    def rows(self) -> int:
        return len(self.texts)

    @property
    def length(self) -> float:
        return sum(map(len, self.texts)) / len(self.texts)

    @property
    def long(self) -> int:
        return sorted(map(len, self.texts))[int(0.95 * (len(self.texts) - 1))]

    @property
    def outside(self) -> str | None:
        if self.label.several:
            return None
        return next((label for label in self.labels if re.sub(r"[\s-]+", "_", label.casefold()) in OUTSIDE), None)

    @property
    def classes(self) -> dict[str, int]:
        """The labels that are classes, with their rows."""
        return {label: rows for label, rows in self.labels.items() if label != self.outside}

    @property
    def skew(self) -> float:
        """Rows of the largest class over rows of the smallest."""
        counts = self.classes.values()
        return max(counts) / min(counts)


def look(data: Path, text: str | None = None, label: str | None = None) -> Look:
    """Read the data and find out what it holds; see `llmops.starter.draft` for errors."""
    reading = open_data(data)
    rows = first_rows(reading, data)
    columns = columns_of(sample(rows))
    names = [column.name for column in columns]
    must_have((text, label), names, data)
    labels = find_labels(sample(rows), columns, text, label)
    if not labels:
        raise _nothing("label (a few values that repeat)", data, names, "--label")
    texts = [text] if text else [column.name for column in text_columns(columns, *labels[0].names)]
    if not texts:
        raise _nothing("text", data, names, "--text")
    return _look(reading, rows, texts, [one for one in labels if texts[0] not in one.names])


def open_data(data: Path) -> Reading:
    """The data as a table: by its ending, and as CSV where that says nothing."""
    form = "csv" if data.is_file() and data.suffix.lower() not in ENDINGS else "auto"
    return read(SourceSection(path=str(data), format=form), Path.cwd())


def first_rows(reading: Reading, data: Path, most: int = LOOKED_AT) -> list[Row]:
    """The first so many rows. Raises DataError when not one can be read."""
    rows = [row for row, _ in islice(reading, most)]
    if not rows:
        raise DataError(f"there is not one readable row in {data}.", where=str(data), do="export the data again")
    return rows


def sample(rows: list[Row]) -> list[Row]:
    """Some of the rows, from all over: enough to judge columns by."""
    return rows[:: max(1, len(rows) // SAMPLE)] if len(rows) > SAMPLE else rows


def must_have(told: Iterable[str | None], names: list[str], data: Path) -> None:
    """Raise DataError when a column that somebody named is not there."""
    for name in filter(None, told):
        if name not in names:
            raise missing_column(name, names, str(data))


def _look(reading: Reading, rows: list[Row], texts: list[str], labels: list[Labelled]) -> Look:
    cells = [(_cell(row.get(texts[0])), labels[0].of_row(row)) for row in rows]
    whole = [(text, found) for text, found in cells if text and found is not None]
    if not whole:
        raise DataError(
            f"no row of {reading.name} has both a text and a label.", where=reading.name, do="fill the cells"
        )
    every = len(rows) + len(reading.bad)
    kept = [text for text, _ in whole]
    return Look(
        reading=reading,
        texts=kept,
        labels=Counter(label for _, found in whole for label in found),
        text=texts[0],
        label=labels[0],
        other_texts=texts[1:],
        other_labels=[name for other in labels[1:] for name in other.names],
        bare=sum(not found for _, found in whole),
        bad_share=1 - len(whole) / every,
        language=language(kept[:: max(1, len(kept) // SAMPLE)]),
    )


def _cell(value: object) -> str:
    return "" if value is None else str(value).strip()


def _nothing(what: str, data: Path, names: list[str], flag: str) -> DataError:
    return DataError(
        f"no column of {data} looks like a {what}; there are {', '.join(names)}.",
        where=str(data),
        do=f"name it with {flag} COLUMN, or another task than text-classification with --task",
    )
