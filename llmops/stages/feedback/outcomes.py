"""Outcomes: how good answers turned out to be, week by week and version by version, as what came true comes in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from llmops.core.intervals import Z95, auc_margin, wilson
from llmops.core.protocols import Judged
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import BadCell
from llmops.fields.permutation import mid_ranks
from llmops.stages.feedback import labelfigures
from llmops.stages.feedback.estimate import Estimate
from llmops.stages.feedback.signals import Signals, number_in, probability_of


@dataclass(frozen=True)
class Span:
    """The answers of a week (named by its Monday) or of a version, of which something is known: how many, and their
    figures by scikit-learn's names."""

    name: str
    known: int
    figures: Mapping[str, Estimate]


def is_right(row: Judged) -> bool:
    """Whether the user found the answer right; a correction weighs more than a thumb."""
    return row.correction == row.label if row.correction is not None else row.rating == 1


def figures(judged: Sequence[Judged], signals: Signals, positive: str | None) -> dict[str, Estimate]:
    """The figures of answers that somebody spoke about: the accuracy of labels, with the area under the ROC curve where
    there are two (`positive` is the event among them); of several labels see labelfigures.py; the mean absolute error
    of numbers. Empty where nothing is."""
    if signals.numbers:
        return _of_numbers(judged)
    if not signals.labels:
        return {}
    if signals.several:
        return labelfigures.figures(judged)
    answered = [row for row in judged if not row.abstained]
    found = {} if positive is None else _ranking(judged, positive)
    if not answered:
        return found
    share = sum(map(is_right, answered)) / len(answered)
    return {"accuracy": Estimate(share, *wilson(share, len(answered))), **found}


def by_week(judged: Iterable[Judged], signals: Signals, positive: str | None) -> list[Span]:
    """The weeks of the requests, oldest first."""
    return _spans(((_monday(row.at), row) for row in judged), signals, positive)


def by_version(judged: Iterable[Judged], signals: Signals, positive: str | None) -> list[Span]:
    """The versions that answered, oldest first."""
    versions = sorted((row for row in judged if row.version is not None), key=lambda row: row.version or 0)
    return _spans(((f"version {row.version}", row) for row in versions), signals, positive)


def _spans(named: Iterable[tuple[str, Judged]], signals: Signals, positive: str | None) -> list[Span]:
    groups: dict[str, list[Judged]] = {}
    for name, row in named:
        groups.setdefault(name, []).append(row)
    spans = [Span(name, len(rows), figures(rows, signals, positive)) for name, rows in groups.items()]
    return [span for span in spans if span.figures]


def _monday(at: float) -> str:
    """The Monday (UTC) of the week in which a moment lies."""
    day = datetime.fromtimestamp(at, UTC).date()
    return (day - timedelta(days=day.weekday())).isoformat()


def _of_numbers(judged: Sequence[Judged]) -> dict[str, Estimate]:
    pairs = [(number_in(row.response), number(row.correction)) for row in judged]
    errors = np.array([abs(said - true) for said, true in pairs if said is not None and true is not None])
    if not len(errors):
        return {}
    mean = float(errors.mean())
    margin = Z95 * float(errors.std(ddof=1)) / math.sqrt(len(errors)) if len(errors) > 1 else None
    return {"mae": _around(mean, margin, math.inf)}


def _ranking(judged: Sequence[Judged], positive: str) -> dict[str, Estimate]:
    """The area under the ROC curve of the event's probability."""
    told = [(probability_of(positive, row), row.correction == positive) for row in judged if row.correction is not None]
    scores = np.array([score for score, _ in told if score is not None])
    events = np.array([event for score, event in told if score is not None], bool)
    count, others = int(events.sum()), int((~events).sum())
    if not count or not others:
        return {}
    ranks = mid_ranks(scores[:, None])[:, 0]
    area = float((ranks[events].sum() - count * (count + 1) / 2) / (count * others))
    return {"roc_auc": _around(area, auc_margin(area, count, others), 1.0)}


def _around(value: float, margin: float | None, most: float) -> Estimate:
    if margin is None:
        return Estimate(value, None, None)
    return Estimate(value, max(0.0, value - margin), min(most, value + margin))


def number(told: Any) -> float | None:
    """A number that somebody told; None for anything else."""
    try:
        found: float | None = kind_of(FieldSection(kind="number")).read(told)
    except BadCell:
        return None
    return found
