"""Drift: has the traffic moved away from the data that the model was made for? Works on plain texts and arrays.

Up to four permutation tests look at things that may move; what a task's answers do not tell is not tested. One fires
when the shift is large (effect) and chance alone would hardly show it (p, Holm's correction over the tests), so the
alarm doesn't depend on the sample size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmops.fields.domain import tell_apart, words
from llmops.fields.permutation import Floats, Shift, holm, mix_shift, rise, value_shift
from llmops.stages.feedback.movers import Moved, moved_labels, moved_words

ABSTAINS, ANSWERS = "(abstains)", "(answers)"
ROWS = 5000
"""Answers compared at most, the newest first."""
TEXTS = 500
"""Texts compared at most on each side, drawn by chance."""
FEWEST = 30
"""Rows that a comparison needs on either side."""
STRANGEST = 5
DECIMALS = 2
"""Of a probability. An int8 model's answer depends a little on what else is in the batch, and a server's batches are
others than ours; where a model is always sure, that alone would pass for a shift."""

ABOUT = {
    "labels": "mix of the answers, abstentions among them (total variation distance)",
    "abstentions": "share of requests on which the model abstained (difference of shares)",
    "confidence": "probability of the best answer (Kolmogorov-Smirnov distance)",
    "unknown words": "share of words that training never saw (Cliff's delta)",
    "texts": "how well a classifier tells old texts from new ones (2 AUC - 1)",
}


@dataclass(frozen=True)
class Sample:
    """What the model answered, a row each: its label (`ABSTAINS` for an abstention) and the best answer's
    probability; and the rows' texts, as far as they were kept. Answers without labels have `abstentions` instead
    (`ABSTAINS` or `ANSWERS`), where the model may abstain; what answers do not tell is empty."""

    labels: Sequence[str] = ()
    confidence: Floats = field(default_factory=lambda: np.empty(0))
    texts: Sequence[str] = ()
    abstentions: Sequence[str] = ()

    @property
    def rows(self) -> int:
        return max(len(self.labels), len(self.confidence), len(self.texts))

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            [*self.labels, *other.labels], np.concatenate([self.confidence, other.confidence]),
            [*self.texts, *other.texts], [*self.abstentions, *other.abstentions],
        )  # fmt: skip

    def head(self, rows: int) -> Sample:
        return Sample(self.labels[:rows], self.confidence[:rows], self.texts[:rows], self.abstentions[:rows])


@dataclass(frozen=True)
class Finding:
    """One test: `effect` 0..1, `p` corrected for the number of tests."""

    test: str
    effect: float
    p: float
    fires: bool


@dataclass(frozen=True)
class Drift:
    """All that the tests found, and what a person needs to understand it."""

    findings: list[Finding]
    labels: list[Moved]
    words: list[Moved]
    strangest: list[str]
    """New texts least like the old ones."""
    old_rows: int
    new_rows: int

    @property
    def fires(self) -> bool:
        return any(finding.fires for finding in self.findings)

    @property
    def effect(self) -> float:
        """The largest effect; 0 when there was nothing to test."""
        return max((finding.effect for finding in self.findings), default=0.0)


def measure(
    old: Sample, new: Sample, known: Collection[str], p_limit: float, effect_limit: float, seed: int = 0
) -> Drift:
    """Compare `new` rows (newest first) with `old` rows that the model was not trained on.

    `known` are the words of the training texts (see `domain.words`). Takes at most about 3 s whatever the sizes.
    """
    rng = np.random.default_rng(seed)
    old, new = old.head(ROWS), new.head(ROWS)
    shifts: dict[str, Shift] = {}
    if len(old.labels) and len(new.labels):
        shifts["labels"] = mix_shift(old.labels, new.labels, rng)
    if len(old.abstentions) and len(new.abstentions):
        shifts["abstentions"] = mix_shift(old.abstentions, new.abstentions, rng)
    if len(old.confidence) and len(new.confidence):
        shifts["confidence"] = value_shift(old.confidence.round(DECIMALS), new.confidence.round(DECIMALS), rng)
    old_texts, new_texts = _draw(old.texts, rng), _draw(new.texts, rng)
    strangest: list[str] = []
    if min(len(old_texts), len(new_texts)) >= FEWEST:
        shifts["unknown words"] = rise(_unknown(old_texts, known), _unknown(new_texts, known), rng)
        shifts["texts"], newness = tell_apart(old_texts, new_texts, rng)
        strangest = [new_texts[index] for index in np.argsort(-newness, kind="stable")[:STRANGEST]]
    return Drift(
        _judge(shifts, p_limit, effect_limit), moved_labels(old.labels, new.labels),
        moved_words(old_texts, new_texts) if strangest else [], strangest, old.rows, new.rows,
    )  # fmt: skip


def _judge(shifts: dict[str, Shift], p_limit: float, effect_limit: float) -> list[Finding]:
    corrected = holm([shift.p for shift in shifts.values()])
    return [
        Finding(test, shift.effect, p, p < p_limit and shift.effect >= effect_limit)
        for (test, shift), p in zip(shifts.items(), corrected, strict=True)
    ]


def _draw(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    if len(texts) <= TEXTS:
        return list(texts)
    return [texts[index] for index in rng.choice(len(texts), TEXTS, replace=False)]


def _unknown(texts: Sequence[str], known: Collection[str]) -> Floats:
    """Share of each text's words that are not `known`."""
    found = [words(text) for text in texts]
    return np.array([sum(word not in known for word in row) / max(len(row), 1) for row in found])
