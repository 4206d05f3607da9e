"""Compares the champion's traffic with the data it was made for; then asks whether a shift is news to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmops.bundle.predictor import Predictor
from llmops.core.protocols import Job
from llmops.records.trafficreader import Logged, TrafficReader
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import FEWEST_OLD, ROWS, TEXTS, Drift, Sample, measure
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.reference import answered, held_out, known_words, logged, seen_as
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
    """Drift of the champion's newest requests against rows that it was not trained on."""
    fewest = job.section("feedback", FeedbackSection).min_requests
    requests = log.requests(now.version, now.since, newest=ROWS)
    if len(requests) < fewest:
        return Comparison(why=f"{len(requests)} requests are too few to tell (min_requests: {fewest})")
    job.room.say("comparing the traffic with held-out rows")
    scene = Scene(job, now)
    new = logged(requests, scene.see)
    if len(new.labels) < fewest:
        return Comparison(why=f"{len(new.labels)} different requests are too few to tell (min_requests: {fewest})")
    old = scene.answers(held_out(job.inputs["dataset"], job.seed, getattr(job.sections["task"], "outside", None)))
    if len(old.labels) < FEWEST_OLD:
        return Comparison(why=f"the data set holds {len(old.labels)} rows that never trained; {FEWEST_OLD} are needed")
    drift = scene.drift(old, new)
    familiar = log.requests(before=gathered.learned_until(now.harvest_rows), newest=ROWS) if drift.fires else []
    return Comparison(drift, known=_is_known(scene, familiar, new, fewest))


def _is_known(scene: Scene, familiar: list[Logged], new: Sample, fewest: int) -> bool:
    """Whether the new requests are like those that the champion has learned from through corrections.

    The test set stays what it was, so after a shift the traffic differs from it for ever. To retrain a champion
    that has been told, the world must move on from what it was told.
    """
    seen = scene.answers(logged(familiar, scene.see).texts[:TEXTS])
    return len(seen.labels) >= fewest and not scene.drift(seen, new).fires


class Scene:
    """The champion and its data set, opened once for all comparisons."""

    def __init__(self, job: Job, now: Champion) -> None:
        self.section, self.seed = job.section("feedback", FeedbackSection), job.seed
        self.predictor = Predictor.open(now.bundle, THREADS)
        self.see = seen_as(self.predictor.manifest.cleaning)
        self.known = known_words(job.inputs["dataset"], self.see)

    def answers(self, texts: Sequence[str]) -> Sample:
        """What the champion answers to `texts`."""
        return answered(self.predictor, texts, self.see)

    def drift(self, old: Sample, new: Sample) -> Drift:
        """`measure` by the settings of the config."""
        return measure(old, new, self.known, self.section.drift_p, self.section.drift_effect, self.seed)
