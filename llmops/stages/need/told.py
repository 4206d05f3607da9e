"""Told: what need has to say about the rows, whatever is predicted from them."""

from __future__ import annotations

from dataclasses import dataclass

from llmops.core.report import Number, Table


@dataclass(frozen=True)
class Told:
    """Figures, tables and what deserves a person's eye."""

    numbers: dict[str, Number]
    tables: list[Table]
    warnings: list[str]
