"""What is true of columns that mix a few values: categories and flags."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from llmops.core.report import Number
from llmops.fields.kind import Drifted
from llmops.fields.permutation import mix_shift

FEWEST = 30
"""Values that a two-sample test needs on either side."""
KNOWN = 1000
"""Values that are remembered, the most frequent first."""
SHOWN = 3
RARE = 0.005
"""Values rarer than this among old and new ones together count as one. (Were it those rare among the old ones, the new
sample of a column with thousands of values would always look new.)"""
NEW_SHARE = 0.05
"""From such a share of never seen values on, another export is likelier than another world."""
MIX = "mix of its values, missing ones among them (total variation distance)"
MISSING, OTHER = "(missing)", "(other)"


def profile(values: Sequence[str | None]) -> dict[str, Number]:
    """Share missing, distinct values, and the most frequent ones with their shares."""
    counts = Counter(values)
    missing = counts.pop(None, 0)
    total = max(1, len(values))
    top = {f"share of {name}": round(n / total, 4) for name, n in counts.most_common(SHOWN)}
    return {"missing": round(missing / total, 4), "distinct": len(counts), **top}


def known(values: Sequence[str | None]) -> dict[str, Any]:
    """The values with their counts, the most frequent first, and the share of missing ones."""
    counts = Counter(values)
    missing = counts.pop(None, 0)
    return {"values": dict(counts.most_common(KNOWN)), "missing": missing / max(1, len(values))}


def unseen(value: str | None, known_: Mapping[str, Any]) -> str | None:
    """In words that a value was never seen, with the nearest one that was."""
    seen = known_["values"]
    if value is None or value in seen or len(seen) >= KNOWN:
        return None
    near = get_close_matches(str(value), [str(name) for name in seen], 1)
    return f"never seen in training: {value}" + (f" (did you mean {near[0]}?)" if near else "")


def drift(name: str, old: Sequence[str | None], new: Sequence[str | None], rng: np.random.Generator) -> list[Drifted]:
    """How far the mix of values moved; rare ones are pooled."""
    if min(len(old), len(new)) < FEWEST:
        return []
    counts = Counter([*old, *new])
    common = {value for value, n in counts.items() if n >= RARE * counts.total()} | {None}
    ours, theirs = ([MISSING if v is None else v if v in common else OTHER for v in side] for side in (old, new))
    return [Drifted(name, mix_shift(ours, theirs, rng), MIX, moved(ours, theirs))]


def moved(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    """The values whose share moved the most, in words."""
    before, after = Counter(old), Counter(new)
    shares = [(before[name] / len(old), after[name] / len(new), name) for name in before | after]
    shares.sort(key=lambda row: (-abs(row[1] - row[0]), str(row[2])))
    return [f"share of {name} {a:.1%} -> {b:.1%}" for a, b, name in shares[:SHOWN] if a != b]


def schema_drift(name: str, old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    """A column that went missing, and values that were never seen."""
    if min(len(old), len(new)) < FEWEST:
        return []
    gone = went_missing(name, sum(v is None for v in old) / len(old), sum(v is None for v in new) / len(new))
    seen = set(old)
    fresh = Counter(value for value in new if value is not None and value not in seen)
    share = fresh.total() / len(new)
    if gone or share < NEW_SHARE + _unseen_by_chance(old, len(new)):
        return gone
    named = ", ".join(str(value) for value, _ in fresh.most_common(SHOWN))
    return [f"{name} has values that were never seen: {named} ({share:.0%} of the rows)"]


def _unseen_by_chance(old: Sequence[Any], rows: int) -> float:
    """Share of `rows` new rows whose value the old ones lack though nothing changed, four standard deviations up: about
    the share of the old ones whose value stands once (Good 1953)."""
    once = sum(n == 1 for value, n in Counter(old).items() if value is not None) / len(old)
    likely = max(once, 1 / len(old))
    return once + 4 * math.sqrt(likely * (1 - likely) * (1 / len(old) + 1 / rows))


def went_missing(name: str, before: float, after: float) -> list[str]:
    """A column that is nearly always empty and was not before."""
    return [f"{name} went missing ({before:.0%} -> {after:.0%} empty)"] if after > 0.95 and before < 0.5 else []
