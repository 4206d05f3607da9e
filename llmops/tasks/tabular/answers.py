"""What the server answers about a row of a table: a class or a number, with what moved it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from llmops.core.section import Section


class Reason(Section):
    """What one column did."""

    column: str
    """The column."""
    value: Any = None
    """Its value as it was sent; null where there is none."""
    effect: float
    """By how much it moved the score from `base`."""


class RowResponse(Section):
    """What answers of all kinds hold. `base`, the effects of all reasons and `others` add up to the score."""

    reasons: list[Reason] = []
    """The columns that moved the score most, the strongest first."""
    others: float = 0.0
    """What the columns that are not named did together."""
    base: float = 0.0
    """The score of an average row."""
    missing: list[str] = []
    """Fields that the request did not give; they count as not known."""
    unseen: list[str] = []
    """In words what training never saw: a new category, a number far out of its range."""

    @property
    def abstained(self) -> bool:
        """A row always gets its answer."""
        return False


class ClassResponse(RowResponse):
    """The class of a row. Of two classes the event is decided from the threshold on that costs set on validation."""

    label: str
    """The decision."""
    probability: float = Field(ge=0, le=1)
    """Calibrated probability of `label`."""
    probabilities: dict[str, float]
    """Calibrated probability of every class."""
    score: float
    """The raw answer that reasons are about: of two classes the log-odds of `reasons_for` before calibration."""
    reasons_for: str
    """The class that positive effects speak for."""

    @property
    def best(self) -> str:
        """The label, as the traffic log knows it."""
        return self.label


class NumberResponse(RowResponse):
    """The number of a row."""

    value: float
    """The number; it is also the score that reasons are about."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    coverage: float
    """Share of rows whose true value such intervals hold."""

    @property
    def best(self) -> None:
        """A number is no label."""
        return None

    @property
    def probability(self) -> None:
        """A number has an interval instead."""
        return None
