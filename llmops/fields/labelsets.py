"""Several labels of one row: read from a cell, their one form as a list, and as a text where that is all there is."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from typing import Any

from llmops.fields.kind import BadCell
from llmops.fields.words import as_text


def tidy(labels: Iterable[str]) -> list[str]:
    """The labels trimmed, each once, in order; empty ones are none."""
    return sorted({label.strip() for label in labels} - {""})


def labels_text(labels: Iterable[str]) -> str:
    """The labels as the text of a JSON list, which `labels_of` reads: equal sets are equal texts."""
    return json.dumps(tidy(labels), ensure_ascii=False)


def labels_of(cell: Any, separator: str | None = None) -> list[str]:
    """The labels of one cell: of a list its parts, also where the list is written as JSON or as Python writes one; of
    other words what stands between the separators, all of them where there is no separator. None and nothing are no
    labels. Raises BadCell for anything else."""
    try:
        return tidy("" if part is None else as_text(part) for part in parts_of(cell, separator))
    except BadCell:
        raise BadCell("a label is no text, but a list or an object") from None


def parts_of(cell: Any, separator: str | None) -> Sequence[Any]:
    """The parts of a cell as they stand there."""
    if isinstance(cell, list | tuple | set | frozenset):
        return list(cell)
    if cell is None or cell != cell:  # NaN is how tables write an empty cell
        return []
    text = as_text(cell)
    if (listed := written_list(text)) is not None:
        return listed
    return [text] if separator is None else text.split(separator)


def written_list(text: str) -> list[Any] | None:
    """The list that a text is as JSON, or as Python writes it (pandas leaves such lists in CSV files: `['a', 'b']`);
    None where it is none."""
    if not text.lstrip().startswith("[") or not text.rstrip().endswith("]"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return None


def each(label: Any) -> tuple[str, ...]:
    """The labels that a row's "label" tells: those of a list, else itself; none for None."""
    if isinstance(label, list | tuple):
        return tuple(label)
    return () if label is None else (str(label),)


def in_words(label: Any) -> str:
    """A row's label, or its labels, for people."""
    return ", ".join(each(label)) or "(no label)"
