"""How prepare's report shortens what is long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmops.core.protocols import Row
from llmops.fields.kind import Kind

SHOWN = 10
"""Rows of a table, names of a list."""


def few(names: Iterable[str]) -> str:
    """The first names in order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


def short(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= 100 else text[:99] + "…"


def brief(row: Row, inputs: Mapping[str, Kind]) -> str:
    """The beginning of a row's inputs; with their names where there are several."""
    if len(inputs) == 1:
        return short(str(row[next(iter(inputs))]))
    return short(", ".join(f"{name} {row[name]}" for name in inputs if row.get(name) is not None))


def subject(inputs: Mapping[str, Kind]) -> str:
    """What rows are called: by their one field's kind ("Texts"), else "Rows"."""
    kinds = [kind.name for kind in inputs.values()]
    return f"{kinds[0].capitalize()}s" if len(kinds) == 1 else "Rows"
