"""Reads the labels of a row: a cell with a separator, a list, or a column of yes and no for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import BadCell
from llmops.fields.labelsets import labels_of, tidy
from llmops.tasks.text_classification.config import TextClassificationSection

FLAG = kind_of(FieldSection(kind="flag"))


def labels_of_row(section: TextClassificationSection, row: Mapping[str, Any]) -> list[str]:
    """The labels of a source's row, sorted, each once, maybe none. Raises BadCell where they can't be read."""
    if isinstance(section.label, list):
        return ticked(row, section.label)
    return labels_of(row[section.label], section.separator)


def ticked(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The columns that say yes; an empty cell says no. Raises BadCell for a cell that says neither."""
    found = []
    for column in columns:
        try:
            if FLAG.read(row[column]):
                found.append(column)
        except BadCell as error:
            raise BadCell(f"{column!r} is {error}") from None
    return tidy(found)
