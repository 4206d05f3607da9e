"""Which of two classes is the event that probabilities, recall and curves are of."""

from __future__ import annotations

from collections.abc import Mapping

from llmops.core.errors import DataError

SHOWN = 10


def event_of(counts: Mapping[str, int], positive: str | None) -> str:
    """Of two classes with their training rows: the one that the config calls `positive`, else the rarer; of equally
    rare ones the last by name (1 of 0 and 1, yes of no and yes)."""
    return positive or min(sorted(counts, reverse=True), key=lambda label: counts[label])


def event_last(counts: Mapping[str, int], positive: str | None, column: str) -> list[str]:
    """The classes sorted, of two the event last; `column` holds them.

    Raises DataError when `positive` is no class, or there are more than two.
    """
    labels = sorted(counts)
    if positive is not None and positive not in labels:
        raise DataError(
            f"`positive: {positive}` is no value of `{column}`; it has {', '.join(labels[:SHOWN])}.",
            where="task.positive",
            do="name one of them",
        )
    if positive is not None and len(labels) > 2:
        raise DataError(
            f"`positive` is one of two classes, and `{column}` has {len(labels):,}.",
            where="task.positive",
            do="leave it out; figures are then means over all classes",
        )
    if len(labels) == 2:
        event = event_of(counts, positive)
        labels.sort(key=lambda label: label == event)
    return labels
