"""Quality as users see it: what they rated and corrected, with an interval that says how little a few votes tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmops.core.intervals import wilson
from llmops.core.protocols import Judged
from llmops.records.trafficreader import Volume


@dataclass(frozen=True)
class Quality:
    """`accuracy` is the share of answered (not abstained) requests that users found right, among those on
    which they said anything; `low` and `high` are its 95 % Wilson interval. None without any such request.
    `liked_low` and `liked_high` are the interval of the share of `liked` among `rated`."""

    requests: int
    abstained: int
    rated: int
    liked: int
    corrected: int
    judged: int
    accuracy: float | None
    low: float | None
    high: float | None
    pairs: list[tuple[str, str, int]]
    """Answer, correction and how often; the most frequent first. None of answers that are no labels."""
    liked_low: float | None = None
    liked_high: float | None = None


def measure(volumes: Sequence[Volume], judged: Sequence[Judged], labels: bool = True) -> Quality:
    """Quality over the given days and words of users; `labels`: answers and corrections are labels."""
    answered = [row for row in judged if row.source == "http" and not row.abstained]
    right = sum(is_right(row) for row in answered)
    low, high = wilson(right / len(answered), len(answered)) if answered else (None, None)
    wrong = Counter((row.label or "", row.correction) for row in answered if row.correction and not is_right(row))
    ratings = [row.rating for row in judged if row.rating is not None and row.source == "http"]
    liked = ratings.count(1)
    liked_low, liked_high = wilson(liked / len(ratings), len(ratings)) if ratings else (None, None)
    return Quality(
        requests=sum(day.requests for day in volumes),
        abstained=sum(day.abstained for day in volumes),
        rated=len(ratings),
        liked=liked,
        corrected=sum(row.correction is not None and row.source == "http" for row in judged),
        judged=len(answered),
        accuracy=right / len(answered) if answered else None,
        low=low,
        high=high,
        pairs=[(answer, correction, count) for (answer, correction), count in wrong.most_common(10)] if labels else [],
        liked_low=liked_low,
        liked_high=liked_high,
    )


def is_right(row: Judged) -> bool:
    """Whether the user found the answer right; a correction weighs more than a thumb."""
    return row.correction == row.label if row.correction is not None else row.rating == 1
