"""The config block `feedback:`. No torch here."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from llmops.core.section import Section


class RetrainWhen(Section):
    """Triggers; one is enough."""

    corrections: int | None = Field(default=200, ge=1)
    """New corrections since the champion was trained; where answers are no labels, liked answers count too."""
    drift: bool = True
    """The traffic has drifted from the training data."""
    every: str | None = None
    """The champion is older than this: `30d`, `12h`."""

    @field_validator("every")
    @classmethod
    def _span(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+[dh]", value):
            raise ValueError("write a number of days or hours, such as 30d or 12h")
        return value

    def every_s(self) -> float | None:
        """`every` in seconds."""
        if self.every is None:
            return None
        return float(self.every[:-1]) * (86_400 if self.every.endswith("d") else 3_600)


class FeedbackSection(Section):
    """`feedback:` what is read from the traffic, and when a retrain is due."""

    retrain_when: RetrainWhen = RetrainWhen()
    """The triggers."""
    min_requests: int = Field(default=100, ge=30)
    """Fewer requests than this say nothing about drift."""
    drift_p: float = Field(default=0.01, gt=0, lt=0.5)
    """A drift test counts when chance alone would show it less often than this (all tests together)."""
    drift_effect: float = Field(default=0.08, gt=0, lt=1)
    """... and when the shift is at least this large (0: none, 1: the two have nothing in common), so that the
    alarm doesn't depend on the sample size. Roughly the share of requests that must be of a new kind."""
