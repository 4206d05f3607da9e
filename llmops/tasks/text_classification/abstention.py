"""When to answer and when to abstain: the detector and the threshold that a config's `task.abstain` asks for.

Abstaining means that the server keeps its answer back where it is not sure enough, so that a person looks. A threshold
gives three figures, and better for one is worse for another: the coverage (share of the questions that belong to a
class that are answered), the accuracy of those answers, and the outside recall (share of the questions that belong to
no class that are kept back).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.tasks.text_classification.config import AbstainSection, CostOfAnswers
from llmops.tasks.text_classification.detectors import DETECTORS, Detector, certainty
from llmops.tasks.text_classification.tradeoff import Sure, Tradeoff, lead, parting, tradeoff

Array = np.ndarray[Any, Any]
Wish = AbstainSection | None
"""What `task.abstain` says."""

KEPT_RIGHT = 0.98
"""Default: so many of the right answers are given, and within that as many questions of no class as can be are kept
back (without such rows: the least sure answers).

Measured on the shipped support data (docs/decisions/0005-abstention.md). The rule before, the best balance of coverage
and outside recall, kept back a quarter of the shop's own questions on validation and one in seven on the test rows.
This one keeps back 3 % of these, nearly half of them wrong answers, and the energy still catches two foreign questions
of three, where the largest probability catches fewer than half. A wrong answer that is kept back is no loss, so right
ones are counted and not all.
"""
SLACK = 1e-9
"""A share that is a target but for rounding is the target."""
FEWEST = 10
"""Rows outside below which no detector is shown to be better than another."""
LITTLE = 0.5
"""A coverage below it is worth a warning."""


@dataclass(frozen=True)
class Choice:
    """What was chosen on validation: joins the bundle's settings; `note` is a warning, or empty."""

    detector: Detector
    threshold: float
    note: str = ""


def sure(detector: Detector, logits: Array, labels: Array, temperature: float) -> Sure:
    """Rows by a detector, from logits [rows, classes] and class numbers [rows], -1 outside every class."""
    return Sure(certainty(detector, logits, temperature), logits.argmax(1) == labels, labels < 0)


def choose_detector(wish: Wish, logits: Array, labels: Array, temperature: float) -> Detector:
    """The detector that parts rows of a class from rows of none best, by the area under the ROC curve.

    The largest probability stays where too few rows are outside to tell, where no other is clearly better (by two
    standard errors), and where the wish is about wrong answers alone: that is what it is calibrated to tell.
    """
    usual: Detector = "probability"
    outside = int((labels < 0).sum())
    about_wrong = wish is not None and wish.answered_accuracy is not None
    if about_wrong or min(outside, len(labels) - outside) < FEWEST:
        return usual
    rows = {name: sure(name, logits, labels, temperature) for name in DETECTORS}
    best = max(rows, key=lambda name: parting(rows[name]) or 0.0)
    ahead, error = lead(rows[best], rows[usual])
    return best if ahead > 2 * error else usual


def choose(wish: Wish, logits: Array, labels: Array, temperature: float) -> Choice:
    """Detector and threshold for what `task.abstain` says, from validation logits [rows, classes] and class numbers
    [rows], -1 outside every class. A target that cannot be had gets the nearest that can, and a note."""
    if (wish is not None and wish.never) or not (labels >= 0).any():
        return Choice("probability", 0.0)
    detector = choose_detector(wish, logits, labels, temperature)
    rows = sure(detector, logits, labels, temperature)
    curve = tradeoff(rows)
    place, note = place_of(wish, curve)
    if place == 0:  # nothing is kept back, nor shall anything be that is less sure than all of validation
        return Choice("probability", 0.0, note)
    if not note and curve.coverage[place] < LITTLE:
        note = f"`task.abstain` leaves only {curve.coverage[place]:.0%} of the validation questions answered"
    return Choice(detector, float(curve.cuts[place]), note)


def place_of(wish: Wish, curve: Tradeoff) -> tuple[int, str]:
    """The place among the curve's cuts that the wish asks for, and a note where it cannot be had."""
    if wish is None:
        return place_by_default(curve), ""
    if wish.cost is not None:
        return int(np.argmin(costs(wish.cost, curve))), ""
    if wish.coverage is not None:
        return most_kept_back(curve.coverage >= wish.coverage - SLACK, curve), ""
    if wish.answered_accuracy is not None:
        return first_or_best(curve.answered_accuracy, wish.answered_accuracy, "answered_accuracy", curve)
    assert wish.outside_recall is not None
    if np.isnan(curve.outside_recall[0]):
        note = "no validation row has the label `outside`: outside_recall chooses no threshold, the default rule does"
        return place_by_default(curve), note
    return first_or_best(curve.outside_recall, wish.outside_recall, "outside_recall", curve)


def place_by_default(curve: Tradeoff) -> int:
    """See KEPT_RIGHT; nothing is kept back where no answer is right."""
    return 0 if np.isnan(curve.kept[0]) else most_kept_back(curve.kept >= KEPT_RIGHT - SLACK, curve)


def most_kept_back(allowed: Array, curve: Tradeoff) -> int:
    """Of the allowed cuts (bool [cuts]) with rows outside the one that keeps most of them back, and of equals the one
    that answers most; without, the highest, which keeps the least sure answers back."""
    places = np.flatnonzero(allowed)
    if np.isnan(curve.outside_recall[0]):
        return int(places[-1])
    return int(places[np.argmax(curve.outside_recall[places])])


def first_or_best(values: Array, least: float, name: str, curve: Tradeoff) -> tuple[int, str]:
    """The lowest cut, which answers most, whose figure is high enough; else the one with the highest figure."""
    enough = np.flatnonzero(values >= least - SLACK)
    if len(enough):
        return int(enough[0]), ""
    best = int(np.nanargmax(values))
    said = (
        f"`task.abstain` asks for {name} {least:g}; the best on validation is {values[best]:.3f}, with "
        f"{curve.coverage[best]:.0%} of the questions answered, and that threshold is used"
    )
    return best, said


def costs(prices: CostOfAnswers, curve: Tradeoff) -> Array:
    """Cost of all validation rows at each cut, float64 [cuts]."""
    outside = prices.wrong if prices.outside is None else prices.outside
    total: Array = prices.wrong * curve.wrong + prices.withheld * curve.withheld + outside * curve.let_through
    return total
