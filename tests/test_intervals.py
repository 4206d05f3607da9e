"""Intervals of shares, against published values."""

from __future__ import annotations

import pytest

from llmops.core.intervals import wilson


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (8, 10, 0.4902, 0.9433),  # Agresti and Coull 1998
        (0, 5, 0.0, 0.4345),
        (5, 5, 0.5655, 1.0),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_is_the_textbooks(right: int, rows: int, low: float, high: float) -> None:
    assert wilson(right / rows, rows) == pytest.approx((low, high), abs=1e-4)


def test_no_row_tells_nothing() -> None:
    assert wilson(0.5, 0) == (0.0, 1.0)
