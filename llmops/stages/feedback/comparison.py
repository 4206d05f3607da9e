"""Compares the champion's traffic with the data it was made for; then asks whether a shift is news to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.core.protocols import Job, Row
from llmops.records.trafficreader import Logged, TrafficReader
from llmops.stages.feedback import reference
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import FEWEST, ROWS, Drift, Sample, measure
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.lens import Lens
from llmops.stages.feedback.schema import SchemaDrift
from llmops.stages.feedback.signals import Signals
from llmops.stages.feedback.triggers import Champion

THREADS = 1
"""Feedback runs beside the server and leaves it the other cores."""


@dataclass(frozen=True)
class Comparison:
    """`drift` is None when too little was there to compare, and `why` says what was missing. `known`: the traffic
    has moved, but no further than what the champion has learned from already; `schema`: what of its schema is news."""

    drift: Drift | None = None
    why: str = "there is no traffic yet"
    known: bool = False
    schema: Sequence[SchemaDrift] = ()

    @property
    def fired(self) -> list[str]:
        """The tests that fired and are news."""
        if self.drift is None or self.known:
            return []
        return [finding.test for finding in self.drift.findings if finding.fires]

    @property
    def broken(self) -> list[SchemaDrift]:
        """What is to be mended at the sender before anything is learnt."""
        return [found for found in self.schema if found.broken]


def compare(job: Job, now: Champion, log: TrafficReader, gathered: Harvest) -> Comparison:
    """Drift of the champion's newest requests against rows that it was not trained on.

    The drift against the nearest reference counts: traffic that looks like the validation rows or like the test
    rows is what the model was made for.
    """
    fewest = job.section("feedback", FeedbackSection).min_requests
    requests = log.requests(now.version, now.since, newest=ROWS)
    if len(requests) < fewest:
        return Comparison(why=f"{len(requests)} requests are too few to tell (min_requests: {fewest})")
    if reference.holds_documents(job.inputs["dataset"]):
        return Comparison(why="the data set holds documents, and a prompt is like none of them")
    job.room.say("comparing the traffic with held-out rows")
    scene = Scene(job, now)
    new = scene.sample(scene.heard(requests))
    if not new.rows and all(row.request is None for row in requests):
        return Comparison(why="the log keeps no contents (deploy.log_text)")
    if new.rows < fewest:
        return Comparison(why=f"{new.rows} different requests are too few to tell (min_requests: {fewest})")
    references = scene.references(job)
    if not references:
        return Comparison(why=f"the data set holds fewer than {FEWEST} rows that never trained")
    drift = min((scene.drift(old, new) for old in references), key=lambda found: (found.fires, found.effect))
    learnt = None
    if drift.fires or drift.schema:
        learnt = _learnt(scene, log, gathered, now.harvest_rows, new, fewest)
    if learnt is None or learnt.fires:
        return Comparison(drift, schema=drift.schema)
    return Comparison(drift, known=drift.fires, schema=learnt.schema)


def _learnt(scene: Scene, log: TrafficReader, gathered: Harvest, rows: int, new: Sample, fewest: int) -> Drift | None:
    """How the new requests differ from those that the champion has learned from through corrections, which are the
    harvest's first `rows`; None for too few.

    The test set stays what it was, so after a shift the traffic differs from it for ever. To retrain a champion
    that has been told, the world must move on from what it was told. Corrections are mostly of wrong answers, so what
    it was told of is all traffic of their time; outcomes are of any answer, and come late.
    """
    if scene.signals.outcomes:
        asks = scene.asked(gathered.rows[:rows][::-1])
    else:
        familiar = scene.heard(log.requests(before=gathered.learned_until(rows), newest=ROWS))
        asks = [ask for _, ask in familiar if ask is not None]
    seen = scene.answers(asks[: scene.compared])
    return scene.drift(seen, new) if seen.rows >= fewest else None


def repeats(job: Job) -> bool:
    """Whether the data set's rows may agree in all inputs: those of a table do, unless prepare took twins out."""
    prepare: Any = job.sections["prepare"]
    return job.task.columned and all(step.dedup is None for step in prepare.steps)


class Scene:
    """The champion and its data set, opened once for all comparisons. A model that writes stays closed."""

    def __init__(self, job: Job, now: Champion) -> None:
        self.section, self.seed = job.section("feedback", FeedbackSection), job.seed
        self.task, self.about = job.task, job.sections["task"]
        self.signals = Signals.of(self.task, self.about)
        self.predictor = Predictor.open(now.bundle, THREADS) if self.signals.answers else None
        manifest = self.predictor.manifest if self.predictor else bundle_format.read(now.bundle)
        self.learnt_valid = bool(manifest.lineage.get("learnt_valid"))
        self.lens = Lens(self.task.inputs(self.about), manifest.cleaning, repeats(job))
        self.known = reference.known(job.inputs["dataset"], self.lens, self.seed)
        self.compared = min(kind.compared for kind in self.lens.kinds.values())

    def references(self, job: Job) -> list[Sample]:
        """The validation and the test rows: one sample, or two when they differ (a test file of its own, a split
        by time), because a mixture of two worlds is like neither. None when there are too few rows. A model that
        learnt the validation rows in the end (`few.refit`) is surer of these than of any other: the test rows alone."""
        parts = reference.held_out(job.inputs["dataset"], self.task, self.about, self.lens, self.seed)
        if self.learnt_valid:
            test = self.answers(parts[1])
            return [test] if test.rows >= FEWEST else []
        valid, test = map(self.answers, parts)
        both = valid + test
        if both.rows < FEWEST:
            return []
        apart = min(valid.rows, test.rows) >= FEWEST and self.drift(valid, test).fires
        return [valid, test] if apart else [both]

    def answers(self, asks: Sequence[Row]) -> Sample:
        """What the champion answers; what was asked alone when it writes."""
        if self.predictor is None:
            return reference.unanswered(asks, self.lens)
        return reference.answered(self.predictor, asks, self.lens, self.signals)

    def asked(self, rows: Sequence[Row]) -> list[Row]:
        """What rows would have asked."""
        return reference.asked(self.task, self.about, rows, self.lens)

    def heard(self, rows: Sequence[Logged]) -> list[reference.Heard]:
        """Different requests of the log with what they asked, newest first."""
        return reference.heard(self.task, self.about, rows, self.lens, self.signals)

    def sample(self, found: Sequence[reference.Heard]) -> Sample:
        """Requests of the log as they were answered."""
        return reference.logged(found, self.lens, self.signals)

    def drift(self, old: Sample, new: Sample) -> Drift:
        """`measure` by the settings of the config."""
        section = self.section
        return measure(old, new, self.lens.kinds, self.known, section.drift_p, section.drift_effect, self.seed)
