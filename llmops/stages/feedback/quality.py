"""Quality as users see it: what they rated and corrected, with an interval that says how little a few votes tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmops.core.intervals import wilson
from llmops.core.protocols import Judged
from llmops.fields.labelsets import in_words, labels_of
from llmops.records.trafficreader import Volume
from llmops.stages.feedback import labelfigures
from llmops.stages.feedback.estimate import Estimate
from llmops.stages.feedback.outcomes import Span, by_week, figures, is_right
from llmops.stages.feedback.signals import Signals


@dataclass(frozen=True)
class Quality:
    """What was said about answers. `judged` are the answered (not abstained) requests on which users said anything;
    `figures` are theirs (see outcomes.py), `weeks` the same by the week of the request. `liked_low` and `liked_high`
    are the 95 % Wilson interval of the share of `liked` among `rated`."""

    requests: int
    abstained: int
    rated: int
    liked: int
    corrected: int
    judged: int
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str, int]] = ()
    """Answer, correction and how often; the most frequent first. None of answers that are no labels."""
    liked_low: float | None = None
    liked_high: float | None = None
    weeks: Sequence[Span] = ()
    changed: Sequence[tuple[str, int, int]] = ()
    """Of answers with several labels: a label, how often users added it, and how often they took it out."""

    def estimate(self, name: str) -> tuple[float | None, float | None, float | None]:
        """A figure with its interval; None each where nothing is known."""
        found = self.figures.get(name)
        return (None, None, None) if found is None else (found.value, found.low, found.high)


def measure(
    volumes: Sequence[Volume], judged: Sequence[Judged], signals: Signals, positive: str | None = None
) -> Quality:
    """Quality over the given days and words of users; `positive` is the event where there are two classes."""
    served = [row for row in judged if row.source == "http"]
    answered = [row for row in served if not row.abstained]
    wrong = Counter((row.label or "", row.correction) for row in answered if row.correction and not is_right(row))
    ratings = [row.rating for row in served if row.rating is not None]
    liked = ratings.count(1)
    liked_low, liked_high = wilson(liked / len(ratings), len(ratings)) if ratings else (None, None)
    shown = (lambda text: in_words(labels_of(text))) if signals.several else str
    pairs = [(shown(answer), shown(correction), count) for (answer, correction), count in wrong.most_common(10)]
    return Quality(
        requests=sum(day.requests for day in volumes),
        abstained=sum(day.abstained for day in volumes),
        rated=len(ratings),
        liked=liked,
        corrected=sum(row.correction is not None for row in served),
        judged=len(answered),
        figures=figures(served, signals, positive),
        pairs=pairs if signals.labels else [],
        liked_low=liked_low,
        liked_high=liked_high,
        weeks=by_week(sorted(served, key=lambda row: row.at), signals, positive),
        changed=labelfigures.corrected(answered) if signals.several else (),
    )
