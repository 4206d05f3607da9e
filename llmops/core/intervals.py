"""How far a measured share may be from the true one."""

from __future__ import annotations

import math

Z95 = 1.959964
"""97.5 % quantile of the normal distribution."""


def wilson(share: float, rows: int) -> tuple[float, float]:
    """95 % confidence interval of a share measured on `rows` rows (Wilson 1927), honest for few rows and for shares
    near 0 or 1; (0, 1) without rows."""
    if rows == 0:
        return 0.0, 1.0
    weight = Z95**2 / rows
    middle = (share + weight / 2) / (1 + weight)
    half = Z95 / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def auc_margin(area: float, events: int, others: int) -> float | None:
    """Half the width of the 95 % interval around an area under the ROC curve (Hanley and McNeil 1982); None without
    events or others."""
    if not events or not others:
        return None
    both_events, both_others = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (events - 1) * (both_events - area**2) + (others - 1) * (both_others - area**2)
    return Z95 * math.sqrt(max(variance, 0.0) / (events * others))


def f1_interval(right: int, answered: int, support: int) -> tuple[float, float]:
    """95 % confidence interval of a class's F1, from its rows answered right, answered so, and truly so; (0, 1) without
    any. F1 is 2 F* / (1 + F*) where F* is the share answered right of the rows that are of the class or answered as it
    (Hand et al. 2021); the Wilson interval of that share is carried over (Lam et al. 2023, the indirect method)."""
    either = answered + support - right
    low, high = wilson(right / either if either else 0.0, either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def told_share(part: int, whole: int, form: str = ".3g") -> str | None:
    """A share with its Wilson interval, for people; None of nothing."""
    return told(part / whole, *wilson(part / whole, whole), form) if whole else None


def told(value: float, low: float, high: float, form: str = ".3g") -> str:
    """A figure with its interval, for people."""
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
