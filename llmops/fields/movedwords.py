"""The words whose share of texts moved the most, so that a person understands a drift."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmops.fields.domain import words

WORDS = 10


@dataclass(frozen=True)
class Moved:
    """A word or label with its share of the old rows and of the new rows."""

    name: str
    old: float
    new: float


def moved_words(old: Sequence[str], new: Sequence[str]) -> list[Moved]:
    """The words whose share of texts moved the most, the surest first.

    Ranked by the z-score of the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn
    2008), which neither rare words nor stop words win. Words of one text only are left out.
    """
    before = Counter(word for text in old for word in set(words(text)))
    after = Counter(word for text in new for word in set(words(text)))
    both = before + after
    if len(both) < 2:
        return []  # a share of all words can only move against another word's
    total_before, total_after, total = sum(before.values()), sum(after.values()), sum(both.values())
    prior_size = min(total_before, total_after)

    def surprise(word: str) -> float:
        prior = prior_size * both[word] / total
        odds = math.log((after[word] + prior) / (total_after + prior_size - after[word] - prior))
        odds -= math.log((before[word] + prior) / (total_before + prior_size - before[word] - prior))
        return abs(odds) / math.sqrt(1 / (after[word] + prior) + 1 / (before[word] + prior))

    chosen = sorted((word for word in both if both[word] > 1), key=lambda word: (-surprise(word), word))
    return [Moved(word, before[word] / len(old), after[word] / len(new)) for word in chosen[:WORDS]]
