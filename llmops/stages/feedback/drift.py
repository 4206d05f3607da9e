"""Drift: has the traffic moved away from the data that the model was made for? Works on columns of values.

Permutation tests look at the answers and, by the fields' kinds, at what was asked; what a task's answers do not tell is
not tested. One fires when the shift is large (effect) and chance alone would hardly show it (p, Holm's correction over
all tests together), so the alarm doesn't depend on the sample size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmops.fields.kind import Column, Drifted, Kind
from llmops.fields.permutation import Floats, holm, mix_shift, share_shift, value_shift
from llmops.stages.feedback.movers import Moved, moved_labels
from llmops.stages.feedback.schema import SchemaDrift, schema_drift

ABSTAINS, ANSWERS, NO_LABEL = "(abstains)", "(answers)", "(no label)"
ROWS = 5000
"""Answers compared at most, the newest first."""
FEWEST = 30
"""Rows that a comparison needs on either side."""
DECIMALS = 2
"""Of a probability. An int8 model's answer depends a little on what else is in the batch, and a server's batches are
others than ours; where a model is always sure, that alone would pass for a shift."""
Known = Mapping[str, Mapping[str, Any]]
"""What training saw of each field (`Kind.known`)."""


@dataclass(frozen=True)
class Sample:
    """What the model answered, a row each: its label (`ABSTAINS` for an abstention) and the best answer's probability,
    or the number; and the columns of what was asked, as far as that was kept. Where an answer may have several labels
    they stand in `several`, without any as (`NO_LABEL`,). Answers without labels have `abstentions` instead (`ABSTAINS`
    or `ANSWERS`), where the model may abstain; what answers do not tell is empty."""

    labels: Sequence[str] = ()
    confidence: Floats = field(default_factory=lambda: np.empty(0))
    fields: Mapping[str, Column] = field(default_factory=dict)
    abstentions: Sequence[str] = ()
    values: Floats = field(default_factory=lambda: np.empty(0))
    several: Sequence[tuple[str, ...]] = ()

    @property
    def rows(self) -> int:
        return max(len(self.labels), len(self.several), len(self.confidence), len(self.values), self.kept)

    @property
    def kept(self) -> int:
        """Rows of which the log kept what was asked."""
        return max(map(len, self.fields.values()), default=0)

    def __add__(self, other: Sample) -> Sample:
        names = dict.fromkeys([*self.fields, *other.fields])
        columns = {name: [side.fields[name] for side in (self, other) if name in side.fields] for name in names}
        return Sample(
            [*self.labels, *other.labels], np.concatenate([self.confidence, other.confidence]),
            {name: np.concatenate(parts) for name, parts in columns.items()},
            [*self.abstentions, *other.abstentions], np.concatenate([self.values, other.values]),
            [*self.several, *other.several],
        )  # fmt: skip

    def head(self, rows: int) -> Sample:
        fields = {name: column[:rows] for name, column in self.fields.items()}
        return Sample(
            self.labels[:rows], self.confidence[:rows], fields, self.abstentions[:rows], self.values[:rows],
            self.several[:rows],
        )  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One test: `effect` 0..1, `p` corrected for the number of tests; `field` is None for one of the answers. For
    people: how it compares (`about`), and what moved (`told`)."""

    test: str
    effect: float
    p: float
    fires: bool
    field: str | None = None
    about: str = ""
    told: Sequence[str] = ()


@dataclass(frozen=True)
class Drift:
    """All that the tests found, and what a person needs to understand it."""

    findings: list[Finding]
    labels: list[Moved]
    schema: list[SchemaDrift]
    """What looks like another export and not like another world."""
    old_rows: int
    new_rows: int
    kept: int
    """New rows of which the log kept what was asked."""

    @property
    def fires(self) -> bool:
        return any(finding.fires for finding in self.findings)

    @property
    def effect(self) -> float:
        """The largest effect; 0 when there was nothing to test."""
        return max((finding.effect for finding in self.findings), default=0.0)

    @property
    def told(self) -> list[tuple[str, str]]:
        """(test, what moved) of all fields of which a test fired."""
        moved = {finding.field for finding in self.findings if finding.fires and finding.field is not None}
        shown = [found for found in self.findings if found.field in moved or (found.fires and found.field is None)]
        return [(found.test, line) for found in shown for line in found.told]


def measure(
    old: Sample,
    new: Sample,
    kinds: Mapping[str, Kind],
    known: Known,
    p_limit: float,
    effect_limit: float,
    seed: int = 0,
) -> Drift:
    """Compare `new` rows (newest first) with `old` rows that the model was not trained on; `kinds` and `known` are the
    fields'. Takes some 3 s for texts, and 0.2 s for each column of a table, whatever the sizes."""
    rng = np.random.default_rng(seed)
    old, new = old.head(ROWS), new.head(ROWS)
    tests: list[tuple[str | None, Drifted]] = [(None, test) for test in _of_answers(old, new, rng)]
    schema: list[SchemaDrift] = []
    for name, kind in kinds.items():
        if name not in old.fields or name not in new.fields:
            continue
        ours, theirs = (_draw(side.fields[name], kind.compared, rng) for side in (old, new))
        tests += [(name, test) for test in kind.drift(name, ours, theirs, known[name], rng)]
        schema += schema_drift(name, kind, ours, theirs)
    schema.sort(key=lambda found: not found.broken)
    moved = moved_labels(old.labels or old.several, new.labels or new.several)
    return Drift(_judge(tests, p_limit, effect_limit), moved, schema, old.rows, new.rows, new.kept)


def _of_answers(old: Sample, new: Sample, rng: np.random.Generator) -> list[Drifted]:
    """The tests of what answers tell."""
    found = []
    if len(old.labels) and len(new.labels):
        about = "mix of the answers, abstentions among them (total variation distance)"
        found.append(Drifted("labels", mix_shift(old.labels, new.labels, rng), about))
    if len(old.several) and len(new.several):
        about = "share of answers with a label (the label whose share moved the most)"
        found.append(Drifted("labels", share_shift(old.several, new.several, rng), about))
    if len(old.abstentions) and len(new.abstentions):
        about = "share of requests on which the model abstained (difference of shares)"
        found.append(Drifted("abstentions", mix_shift(old.abstentions, new.abstentions, rng), about))
    if len(old.confidence) and len(new.confidence):
        about = "probability of the best answer (Kolmogorov-Smirnov distance)"
        shift = value_shift(old.confidence.round(DECIMALS), new.confidence.round(DECIMALS), rng)
        found.append(Drifted("confidence", shift, about))
    if len(old.values) and len(new.values):
        about = "numbers that were predicted (Kolmogorov-Smirnov distance)"
        told = [f"median {np.median(old.values):,.4g} -> {np.median(new.values):,.4g}"]
        found.append(Drifted("answers", value_shift(old.values, new.values, rng), about, told))
    return found


def _judge(tests: Sequence[tuple[str | None, Drifted]], p_limit: float, effect_limit: float) -> list[Finding]:
    corrected = holm([test.shift.p for _, test in tests])
    return [
        Finding(
            test.test, test.shift.effect, p, p < p_limit and test.shift.effect >= effect_limit, name, test.about,
            tuple(test.told),
        )
        for (name, test), p in zip(tests, corrected, strict=True)
    ]  # fmt: skip


def _draw(column: Column, count: int, rng: np.random.Generator) -> Column:
    return column if len(column) <= count else column[rng.choice(len(column), count, replace=False)]
