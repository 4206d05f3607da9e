"""The stage `feedback`: how good the champion is in use, whether its traffic drifted, whether a retrain is due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.artifact import write_json
from llmops.core.errors import DataError, Mistake
from llmops.core.protocols import Depends, Job, Places, Task
from llmops.core.report import Report
from llmops.core.section import Section
from llmops.records.trafficreader import TrafficReader
from llmops.stages.feedback import harvest, quality, triggers
from llmops.stages.feedback.comparison import Comparison, compare
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.reference import read_labels, split
from llmops.stages.feedback.summary import Findings, tell
from llmops.stages.feedback.triggers import Champion

LOG = "traffic.db"
HARVEST = "harvest.jsonl"
VERDICT = "verdict.json"


class FeedbackStage:
    """See the module."""

    name = "feedback"
    version = 1

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        feedback = sections["feedback"]
        assert isinstance(feedback, FeedbackSection)
        now = triggers.champion(places.registry)
        settings = {
            "learns": learns(sections),
            "feedback": feedback.plain(),
            "traffic": traffic_state(places),
            # A harvest that somebody deleted is gathered again.
            "harvest": (places.traffic / HARVEST).exists(),
            "champion": now and [now.version, now.since],
            "too_old": triggers.too_old(feedback.retrain_when, now),
        }
        return Depends(settings=settings, libraries=("numpy", "onnxruntime"))

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        return []

    def run(self, job: Job) -> Report:
        section = job.section("feedback", FeedbackSection)
        findings = find(job)
        verdict = judge(section, findings)
        write_json(job.room.out / VERDICT, verdict)
        return tell(section, findings, verdict, known_labels(job))


def learns(sections: Mapping[str, Section]) -> bool:
    """Whether prepare takes the harvest; without it corrections change nothing."""
    return bool(getattr(sections.get("prepare"), "feedback", True))


def traffic_state(places: Places) -> Any:
    """What stands for the contents of the log: figures that change when it does. A damaged log is told by `run`,
    so that it stops only those who read it."""
    path = places.traffic / LOG
    if not path.exists():
        return None
    try:
        with TrafficReader(path) as log:
            return log.state()
    except DataError as error:
        return str(error)


def find(job: Job) -> Findings:
    """Everything that can be known now; without a champion or a log there is only the harvest of earlier days."""
    now = triggers.champion(job.places.registry)
    path = job.places.traffic / LOG
    if now is not None and path.exists():
        with TrafficReader(path) as log:
            return read_log(job, now, log)
    return Findings(now, quality.measure([], []), [], _stored(job), Comparison(), learns(job.sections))


def read_log(job: Job, now: Champion, log: TrafficReader) -> Findings:
    """Everything that the log tells about the champion; corrections are harvested whatever version they are about."""
    volumes = log.volumes(now.version, now.since)
    job.room.say(f"{sum(day.requests for day in volumes):,} requests since version {now.version} went live")
    measured = quality.measure(volumes, log.judged(now.version, now.since))
    gathered = _stored(job, log)
    harvest.write(job.places.traffic / HARVEST, gathered.rows)
    return Findings(now, measured, volumes, gathered, compare(job, now, log, gathered), learns(job.sections))


def _stored(job: Job, log: TrafficReader | None = None) -> Harvest:
    """The harvest: what was gathered before, and the corrections of the log."""
    before = harvest.read(job.places.traffic / HARVEST)
    tests = [row["text"] for row in split(job.inputs["dataset"], "test")]
    return harvest.gather(before, log.judged() if log else [], tests)


def known_labels(job: Job) -> list[str]:
    """The labels of the data set, the outside one too."""
    outside = getattr(job.sections["task"], "outside", None)
    return [*read_labels(job.inputs["dataset"]), *([outside] if outside else [])]


def judge(section: FeedbackSection, findings: Findings) -> dict[str, Any]:
    """verdict.json: whether a retrain is due, and why."""
    now, drift = findings.champion, findings.comparison.drift
    fired = findings.comparison.fired
    learnable = findings.corrections_new if findings.learns else 0
    reasons = [] if now is None else triggers.reasons(section.retrain_when, now, learnable, fired)
    return {
        "due": bool(reasons),
        "reasons": reasons,
        "corrections_new": findings.corrections_new,
        "drift": {
            "fires": bool(fired),
            "known": findings.comparison.known,
            "tests": {} if drift is None else {
                found.test: {"effect": found.effect, "p": found.p, "fires": found.fires} for found in drift.findings
            },
        },
        "champion": None if now is None else now.version,
        "champion_age_s": None if now is None else now.age_s(),
    }  # fmt: skip
