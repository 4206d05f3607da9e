"""The config block `tune:`. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from llmops.core.section import Section


class Axis(Section):
    """Values that one setting of `train:` may take. Exactly one of the three."""

    log: tuple[float, float] | None = None
    """From .. to, even on a logarithmic scale."""
    uniform: tuple[float, float] | None = None
    """From .. to, even on a linear scale; whole numbers for settings that are whole numbers."""
    choice: list[Any] | None = Field(None, min_length=1)
    """One of these."""

    @model_validator(mode="after")
    def _one(self) -> Axis:
        given = [name for name in ("log", "uniform", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `log`, `uniform`, `choice`")
        span = self.log or self.uniform
        if span is not None and not span[0] < span[1]:
            raise ValueError("the first bound must lie below the second")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError("a logarithmic scale needs bounds above 0")
        return self


class TuneSection(Section):
    """`tune:` the search for better settings; absent: no search."""

    space: dict[str, Axis] = Field(min_length=1)
    """Settings of `train:` and the values they may take; those of a block within it with a dot: `trees.leaves`."""
    trials: int = Field(10, ge=1, le=10_000)
    """Trials at most, the trained model's own settings (the first) included."""
    seconds: float | None = Field(None, gt=0)
    """Seconds at most; no new trial starts after them, and a running one stops at its next epoch."""
    look: float | None = Field(0.06, gt=0, le=0.5)
    """Where `seconds` do not allow three full trainings: settings are tried on this share of the training rows first,
    for two epochs (unless `space` has epochs), as many as the seconds allow, and the best is then trained in full, for
    which the time comes on top. Where not even three such looks are possible there is no search, and the report says
    so. null: full trainings alone. Texts with labels only; other tasks train in full."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Bayesian (tree-structured Parzen estimators, Bergstra et al. 2011), random, or every combination."""
    pruner: Literal["median", "halving", "none"] = "median"
    """What stops bad trials early: below the median of earlier trials, or successive
    halving (Jamieson and Talwalkar 2016)."""
    grid_points: int = Field(3, ge=2, le=100)
    """Grid search: points on each `log` or `uniform` axis."""
