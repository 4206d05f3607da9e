"""How prepare's report shortens what is long."""

from __future__ import annotations

SHOWN = 10
"""Rows of a table, names of a list."""


def few(names: list[str] | set[str]) -> str:
    """The first names in order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


def short(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= 100 else text[:99] + "…"
