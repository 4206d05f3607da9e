"""Is there enough data? Rows per class against the target, and what the test set can show. Rules with their sources.

Training rows: a rule of thumb, read off one published data set. On BANKING77 (77 intents) a tuned BERT reaches
0.834 with 10 training rows a class, 0.900 with 30, 0.937 with all of them, about 130 a class (Casanueva et al.
2020, "Efficient Intent Detection with Dual Sentence Encoders"). Other data may need fewer or more: the baseline's
learning curve, measured on your rows, is the better witness.

Test rows: statistics. A share p measured on n rows is known to within its 95 % interval (Wilson 1927). Two models
are compared on the same rows, so only rows on which they differ count: the difference has a standard error of
sqrt(d / n), d being the share of such rows (McNemar 1947). d is taken to be the share of errors, 1 - p.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from llmops.core.intervals import wilson

ROWS_FOR_TARGET = ((0.834, 10), (0.900, 30), (1.0, 130))
"""Up to this accuracy, so many training rows a class; see the module."""
FEW_ERRORS = 0.001
"""Share of errors that even the best model is taken to make."""
FEW_TEST_ROWS = 5
"""A class with fewer test rows than this can hardly be seen to fail."""


def rows_wanted(target: float) -> int:
    """Training rows a class for a target accuracy, by the rule of thumb."""
    return next(rows for reached, rows in ROWS_FOR_TARGET if target <= reached)


def half_width(share: float, rows: int) -> float:
    """Half the width of the Wilson interval."""
    low, high = wilson(share, rows)
    return (high - low) / 2


def rows_for_margin(share: float, margin: float) -> int:
    """Test rows from which the Wilson interval around `share` is no wider than +- `margin`."""
    low, high = 1, 1
    while half_width(share, high) > margin:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if half_width(share, middle) <= margin else (middle + 1, high)
    return low


def standard_error(share: float, rows: int) -> float:
    """Standard error of the difference between two models of about this accuracy on the same `rows` rows."""
    return math.sqrt(max(1 - share, FEW_ERRORS) / max(rows, 1))


def rows_for_difference(share: float, difference: float) -> int:
    """Test rows from which the standard error is no larger than `difference`. 0 asks for what no test set can show."""
    return math.ceil(max(1 - share, FEW_ERRORS) / difference**2) if difference > 0 else 0


def margin_warning(no_worse_by: float, share: float, rows: int) -> str | None:
    """A word on a champion gate that is finer than the test set can show; None when it is not.

    `share` is the accuracy to expect, `rows` the in-scope test rows.
    """
    error = standard_error(share, rows)
    if no_worse_by >= error:
        return None
    needed = rows_for_difference(share, no_worse_by)
    do = f"about {needed:,} test rows would show it" if needed else "no test set can show a difference of 0"
    return (
        f"the gate champion.no_worse_by {no_worse_by:g} is finer than {rows:,} test rows can show: the standard error"
        f" of the difference is {error:.4f}; {do}, or allow {math.ceil(error * 1000) / 1000:g}"
    )


def gate_warning(gate: str, bound: float, rows: int) -> str | None:
    """A word on a quality gate whose figure the test set knows only roughly (+- more than 0.05)."""
    width = half_width(bound, rows)
    if width <= 0.05:
        return None
    needed = rows_for_margin(bound, 0.05)
    return (
        f"{rows:,} test rows know {gate} near {bound:g} only to +-{width:.3f}; {needed:,} rows would bring it to +-0.05"
    )


def recall_warnings(accept: Mapping[str, Any], events: int | None) -> list[str]:
    """A word on a gate on recall that the test rows of the event know only roughly; `events` counts these."""
    bound = (accept.get("recall") or {}).get("at_least")
    told = gate_warning("recall (of the event)", bound, events) if bound is not None and events else None
    return [told] if told else []


def class_warnings(train: Mapping[str, int], test: Counter[str], wanted: int) -> list[str]:
    """A word on classes with too few rows to learn or to test."""
    said = []
    poor = sorted((count, label) for label, count in train.items() if count < wanted)
    if poor:
        named = ", ".join(f"{label} {count}" for count, label in poor[:5])
        more = f" and {len(poor) - 5} more" if len(poor) > 5 else ""
        said.append(
            f"{len(poor)} of {len(train)} classes have fewer than the {wanted} training rows wanted: {named}{more}"
        )
    unseen = sorted(label for label in train if test[label] < FEW_TEST_ROWS)
    if unseen:
        named = ", ".join(f"{label} {test[label]}" for label in unseen[:5])
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        said.append(f"{len(unseen)} classes have fewer than {FEW_TEST_ROWS} test rows: {named}{more}")
    return said
