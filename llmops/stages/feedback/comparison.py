"""Compares the champion's traffic with the data it was made for; then asks whether a shift is news to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.core.protocols import Job
from llmops.records.trafficreader import Logged, TrafficReader
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import FEWEST, ROWS, TEXTS, Drift, Sample, measure
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.reference import (
    answered,
    held_out,
    holds_documents,
    known_words,
    logged,
    seen_as,
    unanswered,
)
from llmops.stages.feedback.signals import Signals
from llmops.stages.feedback.triggers import Champion

THREADS = 1
"""Feedback runs beside the server and leaves it the other cores."""


@dataclass(frozen=True)
class Comparison:
    """`drift` is None when too little was there to compare, and `why` says what was missing. `known`: the traffic
    has moved, but no further than what the champion has learned from already."""

    drift: Drift | None = None
    why: str = "there is no traffic yet"
    known: bool = False

    @property
    def fired(self) -> list[str]:
        """The tests that fired and are news."""
        if self.drift is None or self.known:
            return []
        return [finding.test for finding in self.drift.findings if finding.fires]


def compare(job: Job, now: Champion, log: TrafficReader, gathered: Harvest) -> Comparison:
    """Drift of the champion's newest requests against rows that it was not trained on.

    The drift against the nearest reference counts: traffic that looks like the validation rows or like the test
    rows is what the model was made for.
    """
    fewest = job.section("feedback", FeedbackSection).min_requests
    requests = log.requests(now.version, now.since, newest=ROWS)
    if len(requests) < fewest:
        return Comparison(why=f"{len(requests)} requests are too few to tell (min_requests: {fewest})")
    if holds_documents(job.inputs["dataset"]):
        return Comparison(why="the data set holds documents, and a prompt is like none of them")
    job.room.say("comparing the traffic with held-out rows")
    scene = Scene(job, now)
    new = logged(requests, scene.see, scene.signals)
    if not new.rows and all(row.text is None for row in requests):
        return Comparison(why="the log keeps no texts (deploy.log_text)")
    if new.rows < fewest:
        return Comparison(why=f"{new.rows} different requests are too few to tell (min_requests: {fewest})")
    references = scene.references(job)
    if not references:
        return Comparison(why=f"the data set holds fewer than {FEWEST} rows that never trained")
    drift = min((scene.drift(old, new) for old in references), key=lambda found: (found.fires, found.effect))
    familiar = log.requests(before=gathered.learned_until(now.harvest_rows), newest=ROWS) if drift.fires else []
    return Comparison(drift, known=_is_known(scene, familiar, new, fewest))


def _is_known(scene: Scene, familiar: list[Logged], new: Sample, fewest: int) -> bool:
    """Whether the new requests are like those that the champion has learned from through corrections.

    The test set stays what it was, so after a shift the traffic differs from it for ever. To retrain a champion
    that has been told, the world must move on from what it was told.
    """
    seen = scene.answers(logged(familiar, scene.see, scene.signals).texts[:TEXTS])
    return seen.rows >= fewest and not scene.drift(seen, new).fires


class Scene:
    """The champion and its data set, opened once for all comparisons. A model that writes stays closed."""

    def __init__(self, job: Job, now: Champion) -> None:
        self.section, self.seed = job.section("feedback", FeedbackSection), job.seed
        self.signals = Signals.of(job.task)
        self.predictor = Predictor.open(now.bundle, THREADS) if self.signals.certainty else None
        manifest = self.predictor.manifest if self.predictor else bundle_format.read(now.bundle)
        self.see = seen_as(manifest.cleaning)
        self.known = known_words(job.inputs["dataset"], self.see)

    def references(self, job: Job) -> list[Sample]:
        """The validation and the test rows: one sample, or two when they differ (a test file of its own, a split
        by time), because a mixture of two worlds is like neither. None when there are too few rows."""
        outside = getattr(job.sections["task"], "outside", None)
        valid, test = (self.answers(texts) for texts in held_out(job.inputs["dataset"], job.seed, outside))
        both = valid + test
        if both.rows < FEWEST:
            return []
        apart = min(valid.rows, test.rows) >= FEWEST and self.drift(valid, test).fires
        return [valid, test] if apart else [both]

    def answers(self, texts: Sequence[str]) -> Sample:
        """What the champion answers to `texts`; the texts alone when it writes."""
        if self.predictor is None:
            return unanswered(texts, self.see)
        return answered(self.predictor, texts, self.see, self.signals)

    def drift(self, old: Sample, new: Sample) -> Drift:
        """`measure` by the settings of the config."""
        return measure(old, new, self.known, self.section.drift_p, self.section.drift_effect, self.seed)
