"""What must not be learnt from: columns that say nothing, that say what another says, that only tell rows apart, and
columns that give the answer away."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.fields.config import FieldSection
from llmops.fields.permutation import mid_ranks
from llmops.tasks.tabular.categories import coded, means_apart

Columns = Mapping[str, np.ndarray[Any, Any]]
SAMPLED = 50_000
LEAK, SUSPECT = 0.99, 0.95
"""Areas under the ROC curve of a single column from which it gives the answer away, or deserves a word."""
NUMBER_LEAK = 0.999
"""The same for a number that is predicted: the share of its ranks' variance that one column explains."""
FEWEST, FEWEST_EVENTS = 50, 10
"""Rows and rows of the rarer class below which nothing is called a leak: so few may be told apart by chance."""
BANDS = 100
"""Quantiles of a number between which rows are compared."""
ASKED = 10
"""Classes that a column is held against, the commonest."""
DISTINCT = 0.95
"""Share of different values from which a category tells rows apart and says nothing about others."""


@dataclass(frozen=True)
class Screened:
    """Columns that are left out, each with the reason; and how well each other column alone tells the target."""

    left_out: dict[str, str]
    alone: dict[str, float]

    @property
    def suspects(self) -> list[str]:
        """Columns that tell nearly all."""
        return [name for name, area in self.alone.items() if area >= SUSPECT]


def screen(
    columns: Columns, fields: Mapping[str, FieldSection], target: np.ndarray[Any, Any], classes: int, origin: str
) -> Screened:
    """Look at the training rows. Raises DataError for a column that gives the answer away; `origin` is where the target
    stands."""
    step = max(1, len(target) // SAMPLED)
    sample = {name: values[::step] for name, values in columns.items()}
    aims = target[::step]
    learnt = [name for name, section in fields.items() if section.learn and section.kind != "id"]
    left_out: dict[str, str] = {}
    first: dict[bytes, str] = {}
    for name in learnt:
        codes = codes_of(sample[name])
        digest = _digest(sample[name], codes)
        reason = _useless(sample[name], codes, fields[name])
        if not reason and digest in first:
            reason = f"says the same as {first[digest]}"
        if reason:
            left_out[name] = reason
        else:
            first[digest] = name
    kept = [name for name in learnt if name not in left_out]
    alone = {name: tells(sample[name], aims, classes) for name in kept}
    _refuse_leaks(alone, aims, classes, origin)
    return Screened(left_out, alone)


def _useless(values: np.ndarray[Any, Any], codes: np.ndarray[Any, Any], section: FieldSection) -> str:
    distinct = int(codes.max(initial=-1)) + 1
    if distinct < 2:
        return "one value in all rows"
    if section.kind == "category" and distinct > DISTINCT * len(values) and len(values) >= FEWEST:
        return "nearly every row has a value of its own"
    if section.kind == "number" and _counts_up(values):
        return "counts the rows"
    return ""


def codes_of(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Values as whole numbers, equal where they are equal or missing, int64 [rows]; of numbers they rise with them."""
    if values.dtype == object:
        return np.asarray(coded(values)[1])
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


def _digest(values: np.ndarray[Any, Any], codes: np.ndarray[Any, Any]) -> bytes:
    """What two columns share that say the same: categories that only have other names, numbers in the same order or in
    the reverse one. Where most values of a category stand once, all such columns would look alike; they are compared as
    they are written."""
    if values.dtype != object:
        missing = np.isnan(values)
        ranks = np.where(missing, -1, codes)
        told = min(ranks.tobytes(), np.where(missing, -1, ranks.max(initial=0) - ranks).tobytes())
    elif 2 * codes.max(initial=0) < len(codes):
        told = codes.tobytes()
    else:
        told = repr(values.tolist()).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(told, digest_size=16, person=values.dtype.kind.encode()).digest()


def _counts_up(values: np.ndarray[Any, Any]) -> bool:
    steps = np.diff(values)
    return len(values) >= FEWEST and bool(
        np.all(values == np.round(values)) and np.all(steps > 0) and np.ptp(steps) == 0
    )


def tells(values: np.ndarray[Any, Any], target: np.ndarray[Any, Any], classes: int) -> float:
    """How well a column alone tells the target: the area under the ROC curve (of two classes, or the mean of one class
    against the rest, over the commonest), or for a number the squared rank correlation."""
    scores, groups = _scores(values), _groups(values)
    if not classes:
        means = means_apart(groups, target[:, None].astype(float), target.mean(keepdims=True), seed=0)
        return max(_correlation(score, target) for score in (*scores, means[:, 0]))
    counts = np.bincount(target[target >= 0], minlength=classes)
    asked = [1] if classes == 2 else [int(n) for n in np.argsort(-counts, kind="stable")[:ASKED]]
    events = target[:, None] == np.array(asked)
    means = means_apart(groups, events.astype(float), events.mean(axis=0), seed=0)
    ranks = mid_ranks(np.column_stack([*scores, np.zeros(len(target))]))
    areas = []
    for event, mean in zip(events.T, means.T, strict=True):
        if 0 < event.sum() < len(event):
            plain = _areas(ranks, event)
            areas.append(max(*plain, *(1 - plain), *_areas(mid_ranks(mean[:, None]), event)))
    return float(np.mean(areas)) if areas else 0.5


def _scores(values: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """What a column says without having seen the target: a number, and whether it is missing."""
    if values.dtype == object:
        return []
    missing = np.isnan(values)
    filled = np.where(missing, np.nanmin(values) - 1 if not missing.all() else 0.0, values)
    return [filled, missing.astype(float)]


def _groups(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows that a mean of the target in other rows is taken of: those with the same value, and of a number with many
    values those between two quantiles; int64 [rows]. So a leak in the middle of a range is seen too."""
    codes = codes_of(values)
    if values.dtype == object or codes.max(initial=0) < BANDS:
        return codes
    edges = np.unique(np.nanquantile(values, np.linspace(0, 1, BANDS)))
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _areas(ranks: np.ndarray[Any, Any], event: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The area under the ROC curve of each column of ranks [rows, scores]."""
    events, others = int(event.sum()), int((~event).sum())
    return np.asarray((ranks[event].sum(axis=0) - events * (events + 1) / 2) / (events * others))


def _correlation(scores: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> float:
    if np.ptp(scores) == 0 or np.ptp(target) == 0:
        return 0.0
    ranks = mid_ranks(np.stack([scores, target], 1).astype(float))
    return float(np.asarray(np.corrcoef(ranks.T))[0, 1] ** 2)


def _refuse_leaks(alone: Mapping[str, float], target: np.ndarray[Any, Any], classes: int, origin: str) -> None:
    rarer = int(np.bincount(target, minlength=classes).min()) if classes else len(target)
    if len(target) < FEWEST or rarer < FEWEST_EVENTS:
        return
    limit = LEAK if classes else NUMBER_LEAK
    leaks = {name: told for name, told in alone.items() if told > limit}
    if not leaks:
        return
    figure = "ROC AUC" if classes else "squared rank correlation"
    named = ", ".join(f"`{name}` ({figure} {told:.3f})" for name, told in leaks.items())
    raise DataError(
        f"{named} alone {'gives' if len(leaks) == 1 else 'give'} the answer away: such a column is usually filled in "
        "after the outcome is known, and a request won't have it.",
        where=origin,
        do="take it out of `task.fields` (or write `learn: false`); if it really is known beforehand, a rule is enough",
    )
