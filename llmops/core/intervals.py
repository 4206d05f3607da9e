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
