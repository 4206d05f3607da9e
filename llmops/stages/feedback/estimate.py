"""Estimate: a figure of answers of which something is known, and how exactly they know it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; `low` and `high` are None where the rows are too few to tell."""

    value: float
    low: float | None
    high: float | None
