"""What every threshold for abstaining would do: coverage, accuracy of what is answered, outside recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.report import Curve, Number, Table
from llmops.tasks import ranking

Array = np.ndarray[Any, Any]
POINTS = 200
"""Points of a curve at most."""
SHOWN = (1.0, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Coverages that the report's table shows."""
NOTHING = float("-inf")
"""The threshold that keeps nothing back."""
FIGURES = ("coverage", "answered_accuracy", "outside_recall")


@dataclass(frozen=True)
class Sure:
    """Rows as abstaining sees them: `scores` float64 [rows], more is surer; `right` and `outside` bool [rows]: the best
    label is the true one; the row belongs to no class."""

    scores: Array
    right: Array
    outside: Array


@dataclass(frozen=True)
class Tradeoff:
    """What every threshold that makes a difference does: `cuts` ascending, from the one that keeps nothing back to the
    one that answers only the surest row; the other figures belong to them, all float64 [cuts].

    coverage (share answered of the rows of a class), answered_accuracy (share right of those), outside_recall (share
    kept back of the rows of none): NaN where there is no such row. kept: share of the right answers that are given.
    wrong, withheld, let_through: counts of wrong answers, of rows of a class that get none, of rows of none that do.
    """

    cuts: Array
    coverage: Array
    answered_accuracy: Array
    outside_recall: Array
    kept: Array
    wrong: Array
    withheld: Array
    let_through: Array


def share(above: Array, below: Array | float) -> Array:
    """Elementwise quotient, NaN for 0 / 0."""
    top = np.asarray(above, np.float64)
    quotient: Array = np.divide(top, below, out=np.full(top.shape, np.nan), where=np.asarray(below) != 0)
    return quotient


def tradeoff(rows: Sure) -> Tradeoff:
    """The figures at all thresholds. Cuts lie halfway between neighbouring scores."""
    edges = np.unique(rows.scores)
    between = (edges[1:] + edges[:-1]) / 2
    # halfway between two floats that are neighbours is one of them: the upper one parts them, the lower does not
    cuts = np.concatenate([[NOTHING], np.where(between > edges[:-1], between, edges[1:])])

    def answered(group: Array) -> Array:
        scores = np.sort(rows.scores[group])
        left: Array = len(scores) - np.searchsorted(scores, cuts, side="left")
        return left

    inside, outside, right = ~rows.outside, rows.outside, rows.right & ~rows.outside
    given, let_through, correct = answered(inside), answered(outside), answered(right)
    return Tradeoff(
        cuts=cuts,
        coverage=share(given, float(inside.sum())),
        answered_accuracy=share(correct, given),
        outside_recall=1.0 - share(let_through, float(outside.sum())),
        kept=share(correct, float(right.sum())),
        wrong=given - correct,
        withheld=inside.sum() - given,
        let_through=let_through,
    )


def figures(rows: Sure, threshold: float) -> dict[str, Number]:
    """What a threshold does: {"outside_recall", "coverage", "answered_accuracy"}; None where no row tells."""
    given = rows.scores >= threshold
    answered = given & ~rows.outside
    return {
        "outside_recall": _mean(~given[rows.outside]),
        "coverage": _mean(given[~rows.outside]),
        "answered_accuracy": _mean(rows.right[answered]),
    }


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def placements(rows: Sure) -> tuple[Array, Array]:
    """Of each row of a class the share of rows of none that are less sure, of each row of none the share of rows of a
    class that are surer (ties count half): float64 [rows of a class], [rows of none]. Either mean is the area under the
    ROC curve."""
    return ranking.placements(rows.scores[~rows.outside], rows.scores[rows.outside])


def parting(rows: Sure) -> float | None:
    """Area under the ROC curve: the chance that a row of a class is surer than one of none. None where either is
    missing."""
    of_class, of_none = placements(rows)
    return float(of_none.mean()) if len(of_class) and len(of_none) else None


def lead(ours: Sure, theirs: Sure) -> tuple[float, float]:
    """How much larger our area is than theirs on the same rows (two of each kind or more), and the standard error of it
    (DeLong et al. 1988)."""
    pairs = zip(placements(ours), placements(theirs), strict=True)
    of_class, of_none = (mine - yours for mine, yours in pairs)
    spread = of_class.var(ddof=1) / len(of_class) + of_none.var(ddof=1) / len(of_none)
    return float(of_none.mean()), float(np.sqrt(spread))


def picture(rows: Sure, split: str) -> list[Curve]:
    """The three figures against the threshold, for the run's page."""
    curve = tradeoff(rows)
    places = np.unique(np.linspace(0, len(curve.cuts) - 1, POINTS).astype(int))[1:]  # the first cut is infinite
    lines = {
        name.replace("_", " "): [(float(curve.cuts[at]), float(values[at])) for at in places if np.isfinite(values[at])]
        for name in FIGURES
        if np.isfinite(values := getattr(curve, name)).any()
    }
    return [Curve(f"Abstaining by threshold, {split}", "threshold", "share", lines)]


def choices(rows: Sure, threshold: float, split: str) -> Table:
    """What other thresholds would do, by the coverage they leave; the bundle's own comes first."""
    curve = tradeoff(rows)
    now = figures(rows, threshold)
    lines: list[list[Number]] = [[f"{threshold:.4g} (the bundle's)", *(now[name] for name in FIGURES)]]
    found = [np.flatnonzero(curve.coverage >= least - 1e-9) for least in SHOWN]
    for place in dict.fromkeys([0, *(int(places[-1]) for places in found if len(places))]):
        there = [float(getattr(curve, name)[place]) for name in FIGURES]
        named = "never abstain" if place == 0 else f"{curve.cuts[place]:.4g}"
        lines.append([named, *(value if np.isfinite(value) else None for value in there)])
    title = f"What other thresholds for abstaining (keeping an answer back) would do to {split}"
    return Table(title, ["threshold", *(name.replace("_", " ") for name in FIGURES)], lines)
