"""The stage `feedback`: how good the champion is in use, whether its traffic drifted, whether a retrain is due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.artifact import write_json
from llmops.core.errors import DataError, Mistake
from llmops.core.protocols import Depends, Job, Places, Task
from llmops.core.protocols.task import CLASSED
from llmops.core.report import Report
from llmops.core.section import Section
from llmops.records.trafficreader import TrafficReader
from llmops.records.unlabelled import takes_traffic, traffic_file
from llmops.stages.feedback import harvest, outcomes, pairs, quality, triggers, unlabelled
from llmops.stages.feedback.comparison import Comparison, compare
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.harvest import Harvest, Rule
from llmops.stages.feedback.pairs import PREFERENCES
from llmops.stages.feedback.reference import read_labels, split
from llmops.stages.feedback.signals import Signals
from llmops.stages.feedback.summary import Findings, tell
from llmops.stages.feedback.triggers import Champion

LOG = "traffic.db"
HARVEST = "harvest.jsonl"
VERDICT = "verdict.json"


class FeedbackStage:
    """See the module."""

    name = "feedback"
    version = 4

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        feedback = sections["feedback"]
        assert isinstance(feedback, FeedbackSection)
        now = triggers.champion(places.registry)
        settings = {
            "learns": learns(sections),
            "feedback": feedback.plain(),
            "traffic": traffic_state(places),
            # A harvest that somebody deleted is gathered again.
            "harvest": [(places.traffic / name).exists() for name in _files(sections, task, places)],
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
        report = tell(section, findings, verdict, known_labels(job))
        if findings.pairs is not None and findings.pairs.rows:
            report.passages.append(pairs.shown(job.places, len(findings.pairs.rows)))
        if takes_traffic(job.sections.get("prepare"), job.places):
            unlabelled.tell(report, job)
        return report


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
    signals = Signals.of(job.task, job.sections["task"])
    now = triggers.champion(job.places.registry)
    path = job.places.traffic / LOG
    if now is not None and path.exists():
        with TrafficReader(path) as log:
            return read_log(job, now, log)
    none, kept, paired = quality.measure([], [], signals), _stored(job), _paired(job)
    return Findings(now, none, [], kept, Comparison(), learns(job.sections), signals, paired)


def read_log(job: Job, now: Champion, log: TrafficReader) -> Findings:
    """Everything that the log tells about the champion; corrections are harvested whatever version they are about."""
    volumes = log.volumes(now.version, now.since)
    job.room.say(f"{sum(day.requests for day in volumes):,} requests since version {now.version} went live")
    signals, positive = Signals.of(job.task, job.sections["task"]), event(job)
    measured = quality.measure(volumes, log.judged(now.version, now.since), signals, positive)
    versions = outcomes.by_version((row for row in log.judged() if row.source == "http"), signals, positive)
    gathered, paired = _stored(job, log), _paired(job, log)
    harvest.write(job.places.traffic / HARVEST, gathered.rows)
    if paired is not None:
        harvest.write(job.places.traffic / PREFERENCES, paired.rows)
    if takes_traffic(job.sections.get("prepare"), job.places):
        unlabelled.leave(job, log)
    found = compare(job, now, log, gathered)
    return Findings(now, measured, volumes, gathered, found, learns(job.sections), signals, paired, versions)


def _stored(job: Job, log: TrafficReader | None = None) -> Harvest:
    """The harvest: what was gathered before, and what users said according to the log."""
    return _gathered(job, HARVEST, Rule.of(job.task, job.sections["task"]), log)


def _paired(job: Job, log: TrafficReader | None = None) -> Harvest | None:
    """The preference pairs, old and new; None for a task that makes none."""
    learn = pairs.pairing(job.task, job.sections["task"])
    return None if learn is None else _gathered(job, PREFERENCES, Rule.of(job.task, job.sections["task"], learn), log)


def _gathered(job: Job, name: str, rule: Rule, log: TrafficReader | None) -> Harvest:
    labelled = job.task.predicts(job.sections["task"]) != "nothing"
    before = harvest.read(job.places.traffic / name, rule.kinds, labelled)
    return harvest.gather(before, log.judged() if log else [], split(job.inputs["dataset"], "test"), rule)


def _files(sections: Mapping[str, Section], task: Task, places: Places) -> list[str]:
    """The files that rows are gathered in."""
    found = [HARVEST] if pairs.pairing(task, sections["task"]) is None else [HARVEST, PREFERENCES]
    return [*found, traffic_file(places).name] if takes_traffic(sections.get("prepare"), places) else found


def known_labels(job: Job) -> list[str]:
    """The labels of the data set, the outside one too; none where rows have no labels."""
    if job.task.predicts(job.sections["task"]) not in CLASSED:
        return []
    outside = getattr(job.sections["task"], "outside", None)
    return [*read_labels(job.inputs["dataset"]), *([outside] if outside else [])]


def event(job: Job) -> str | None:
    """Of two classes the one whose probability is looked at; None for any other number of them, or several at once."""
    labels = known_labels(job)
    return labels[1] if len(labels) == 2 and job.task.predicts(job.sections["task"]) == "class" else None


def judge(section: FeedbackSection, findings: Findings) -> dict[str, Any]:
    """verdict.json: whether a retrain is due, and why."""
    now, comparison = findings.champion, findings.comparison
    drift, fired = comparison.drift, comparison.fired
    learnable = findings.corrections_new if findings.learns else 0
    what = findings.signals.learnt_from
    reasons = [] if now is None else triggers.reasons(section.retrain_when, now, learnable, fired, what)
    return {
        "due": bool(reasons) and not comparison.broken,
        "reasons": [] if comparison.broken else reasons,
        "held_back": reasons if comparison.broken else [],
        "corrections_new": findings.corrections_new,
        "drift": {
            "fires": bool(fired),
            "known": comparison.known,
            "schema": [{"field": one.field, "told": one.told, "broken": one.broken} for one in comparison.schema],
            "tests": {} if drift is None else {
                found.test: {"effect": found.effect, "p": found.p, "fires": found.fires} for found in drift.findings
            },
        },
        "champion": None if now is None else now.version,
        "champion_age_s": None if now is None else now.age_s(),
    }  # fmt: skip
