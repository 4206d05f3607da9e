"""The kind text: words that people wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmops.core.report import Number
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep
from llmops.fields.domain import tell_apart, words
from llmops.fields.hashing import normalise
from llmops.fields.kind import Column, Drifted
from llmops.fields.mixes import FEWEST, went_missing
from llmops.fields.movedwords import moved_words
from llmops.fields.neartwins import NearIndex
from llmops.fields.permutation import rise
from llmops.fields.words import Wordy

KNOWN_WORDS = 200_000
"""Words of training that are remembered, the most frequent first."""
STRANGEST = 5
WORDS = "share of words that training never saw (Cliff's delta)"
APART = "how well a classifier tells old texts from new ones (2 AUC - 1)"
PERCENTILES = (5, 50, 95, 99, 100)


class Text(Wordy):
    """See the module. Texts are equal when they differ in case, punctuation and white space alone."""

    name = "text"
    compared = 500

    def cleaned(self, value: Any, step: CleanStep) -> Any:
        """Unicode, white space, personal data."""
        return None if value is None else clean(value, step)

    def key(self, value: Any) -> str:
        """Its normal form."""
        return "\0missing" if value is None else normalise(value)

    def near(self, similarity: float, keys: Sequence[str]) -> NearIndex:
        return NearIndex(similarity, keys)

    def profile(self, values: Column) -> Mapping[str, Number]:
        """Characters of the texts."""
        lengths = sorted(len(value) for value in values if value is not None)
        missing = 1 - len(lengths) / max(1, len(values))
        told: dict[str, Number] = {"missing": round(missing, 4)} if missing else {}
        for percent in PERCENTILES if lengths else ():
            name = f"{percent} % of characters up to" if percent < 100 else "longest"
            told[name] = lengths[min(len(lengths) - 1, len(lengths) * percent // 100)]
        return told

    def known(self, values: Column) -> dict[str, Any]:
        """The words of training."""
        counts = Counter(word for value in values if value is not None for word in words(value))
        return {"words": [word for word, _ in counts.most_common(KNOWN_WORDS)]}

    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        """Whether more words are unknown, and how well a classifier tells old texts from new ones."""
        ours, theirs = ([value for value in side if value is not None] for side in (old, new))
        if min(len(ours), len(theirs)) < FEWEST:
            return []
        seen = set(known["words"])
        unknown = rise(_unknown(ours, seen), _unknown(theirs, seen), rng)
        shift, newness = tell_apart(ours, theirs, rng)
        moved = [f"{word.name} {word.old:.1%} -> {word.new:.1%}" for word in moved_words(ours, theirs)]
        strangest = [theirs[at] for at in np.argsort(-newness, kind="stable")[:STRANGEST]]
        of = "" if name == "text" else f" of {name}"
        return [
            Drifted(f"unknown words{of}", unknown, WORDS, moved),
            Drifted(f"texts{of}", shift, APART, [f"least like the old ones: {text[:200]}" for text in strangest]),
        ]

    def schema_drift(self, name: str, old: Column, new: Column) -> list[str]:
        gone = [sum(value is None for value in side) / max(1, len(side)) for side in (old, new)]
        return went_missing(name, *gone) if min(len(old), len(new)) >= FEWEST else []

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": ["string", "null"], "x-control": "box", "examples": []}


def _unknown(texts: Sequence[str], known: set[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of each text's words that training never saw."""
    found = [words(text) for text in texts]
    return np.array([sum(word not in known for word in row) / max(len(row), 1) for row in found])
