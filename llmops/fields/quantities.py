"""Base of kinds whose values lie on a line: number, date, flag. Columns are float64, NaN where a value is missing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmops.core.report import Number
from llmops.fields.hashing import key_of
from llmops.fields.kind import Column, Drifted, Keys, Kind
from llmops.fields.mixes import FEWEST, went_missing
from llmops.fields.permutation import mix_shift, value_shift
from llmops.fields.rowkeys import mix

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
MISSING_KEY = np.uint64(key_of("\0missing"))
VALUES = "its values (Kolmogorov-Smirnov distance)"
LACKS = "share of rows without it (difference of shares)"
FAR = 1.0
"""A value is far out when it lies further outside of all that training saw than this many times its range."""


class Quantity(Kind):
    """Values lie on a line."""

    numeric = True

    @abstractmethod
    def shown(self, value: float) -> str:
        """A value for people."""

    def column(self, values: Sequence[Any]) -> Column:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)

    def key(self, value: Any) -> str:
        """Its shortest text."""
        return "\0missing" if value is None else repr(float(value) + 0.0)

    def keys(self, values: Column) -> Keys:
        """The bits of the float64, mixed; both zeros are one, and so are all missing values."""
        bits = (np.asarray(values, np.float64) + 0.0).view(np.uint64)
        return np.where(np.isnan(values), MISSING_KEY, mix(bits))

    def profile(self, values: Column) -> Mapping[str, Number]:
        present = values[~np.isnan(values)]
        told: dict[str, Number] = {"missing": round(1 - len(present) / max(1, len(values)), 4)}
        if len(present):
            marks = zip(("smallest", "median", "largest"), np.quantile(present, [0, 0.5, 1]), strict=True)
            told |= {"distinct": len(np.unique(present)), **{name: self.shown(float(at)) for name, at in marks}}
        return told

    def known(self, values: Column) -> dict[str, Any]:
        present = values[~np.isnan(values)]
        if not len(present):
            return {"quantiles": [], "whole": False, "missing": 1.0}
        return {
            "quantiles": [float(at) for at in np.quantile(present, QUANTILES)],
            "whole": bool(np.all(present == np.round(present))),
            "missing": 1 - len(present) / len(values),
        }

    def unseen(self, value: Any, known: Mapping[str, Any]) -> str | None:
        if value is None or not known["quantiles"]:
            return None
        low, high = known["quantiles"][0], known["quantiles"][-1]
        room = FAR * (high - low)
        if low - room <= float(value) <= high + room:
            return None
        return f"{self.shown(float(value))} is far outside of {self.shown(low)} to {self.shown(high)}"

    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        """Whether values moved, and whether more (or fewer) are missing."""
        ours, theirs = old[~np.isnan(old)], new[~np.isnan(new)]
        if min(len(ours), len(theirs)) < FEWEST:
            return self.lacking(name, old, new, rng)
        moved = Drifted(name, value_shift(ours, theirs, rng), VALUES, self.moved(ours, theirs))
        return [moved, *self.lacking(name, old, new, rng)]

    def lacking(self, name: str, old: Column, new: Column, rng: np.random.Generator) -> list[Drifted]:
        """Whether more (or fewer) are missing; no test where none is."""
        lacks = np.isnan(old), np.isnan(new)
        if min(len(old), len(new)) < FEWEST or not (lacks[0].any() or lacks[1].any()):
            return []
        before, after = (["missing" if gone else "there" for gone in side] for side in lacks)
        told = f"missing {lacks[0].mean():.1%} -> {lacks[1].mean():.1%}"
        return [Drifted(f"{name} missing", mix_shift(before, after, rng), LACKS, [told])]

    def moved(self, old: Column, new: Column) -> list[str]:
        """The medians, and where these stay the outer quartiles."""
        before, after = np.quantile(old, [0.25, 0.5, 0.75]), np.quantile(new, [0.25, 0.5, 0.75])
        if before[1] != after[1]:
            return [f"median {self.shown(before[1])} -> {self.shown(after[1])}"]
        spans = [f"{self.shown(side[0])} .. {self.shown(side[2])}" for side in (before, after)]
        return [f"the middle half {spans[0]} -> {spans[1]}"]

    def schema_drift(self, name: str, old: Column, new: Column) -> list[str]:
        if min(len(old), len(new)) < FEWEST:
            return []
        return went_missing(name, float(np.isnan(old).mean()), float(np.isnan(new).mean()))
