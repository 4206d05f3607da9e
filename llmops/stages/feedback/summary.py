"""What feedback found, told to people: headline, figures, tables, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops.core.report import Curve, Number, Report, Table
from llmops.fields.redaction import KINDS
from llmops.records.trafficreader import Volume
from llmops.stages.feedback.comparison import Comparison
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import ABOUT, Drift
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.movers import Moved
from llmops.stages.feedback.quality import Quality
from llmops.stages.feedback.signals import Signals
from llmops.stages.feedback.triggers import Champion

DAYS = 14
"""Days in the table of volumes; the curve holds all."""
FEW_VOTES = 30


@dataclass(frozen=True)
class Findings:
    """All that the stage found. `champion` is None before the first promotion; `learns` says whether prepare
    takes the harvest; `pairs` are the preference pairs, None for a task that makes none."""

    champion: Champion | None
    quality: Quality
    volumes: Sequence[Volume]
    harvest: Harvest
    comparison: Comparison
    learns: bool
    signals: Signals
    pairs: Harvest | None = None

    @property
    def learnt_from(self) -> str:
        """What rows of the harvest are made of."""
        return "corrections" if self.signals.labels else "corrections and liked answers"

    @property
    def corrections_new(self) -> int:
        """Rows of the harvest that the champion's training did not read."""
        learned = 0 if self.champion is None else self.champion.harvest_rows
        return max(0, len(self.harvest.rows) - learned)


def tell(section: FeedbackSection, findings: Findings, verdict: dict[str, Any], labels: Sequence[str]) -> Report:
    """The report; `labels` are those that the data set knows."""
    new_labels = findings.harvest.new_labels(labels)
    return Report(
        headline=headline(findings, verdict),
        numbers=numbers(findings, verdict, len(new_labels)),
        tables=tables(section, findings, new_labels),
        curves=curves(findings),
        warnings=warnings(findings),
        next=["llmops run CONFIG --if-due"] if verdict["due"] else [],
    )


def headline(findings: Findings, verdict: dict[str, Any]) -> str:
    """The verdict in one sentence."""
    if verdict["due"]:
        return "a retrain is due: " + "; ".join(verdict["reasons"])
    if findings.champion is None:
        return "nothing is deployed yet, so there is no traffic to read; a retrain is not due"
    if findings.quality.requests == 0:
        return "there is no traffic yet since the champion went live; a retrain is not due"
    return (
        f"no retrain is due: {findings.corrections_new} new {findings.learnt_from}, "
        f"{_drift_in_words(findings.comparison)}, {findings.quality.requests:,} requests"
    )


def _drift_in_words(comparison: Comparison) -> str:
    if comparison.drift is None:
        return f"drift unknown ({comparison.why})"
    return "drift that the champion has learned from already" if comparison.known else "no drift"


def numbers(findings: Findings, verdict: dict[str, Any], new_labels: int) -> dict[str, Number]:
    """The figures for gates and scripts; shares lie between 0 and 1."""
    quality, harvest = findings.quality, findings.harvest
    abstained = {"abstained_share": _share(quality.abstained, quality.requests)} if findings.signals.certainty else {}
    return {
        "requests": quality.requests,
        **abstained,
        "rated": quality.rated,
        "rated_share": _share(quality.rated, quality.requests),
        "liked_share": _share(quality.liked, quality.rated),
        "corrections": quality.corrected,
        "corrections_new": findings.corrections_new,
        "judged": quality.judged,
        **(_of_labels(quality, new_labels) if findings.signals.labels else _of_words(quality)),
        "harvest_rows": len(harvest.rows),
        "harvest_added": harvest.added,
        "harvest_in_test": harvest.in_test,
        **({} if findings.pairs is None else {"preference_rows": len(findings.pairs.rows)}),
        "drift": verdict["drift"]["fires"],
        "drift_effect": findings.comparison.drift.effect if findings.comparison.drift else None,
        "due": verdict["due"],
        "champion_age_s": verdict["champion_age_s"],
    }  # fmt: skip


def _of_labels(quality: Quality, new_labels: int) -> dict[str, Number]:
    """Figures of answers that are labels."""
    return {
        "estimated_accuracy": quality.accuracy,
        "estimated_accuracy_low": quality.low,
        "estimated_accuracy_high": quality.high,
        "new_labels": new_labels,
    }


def _of_words(quality: Quality) -> dict[str, Number]:
    """Figures of answers in words, of which many may be right."""
    return {
        "liked_share_low": quality.liked_low,
        "liked_share_high": quality.liked_high,
        "corrected_share": _share(quality.corrected, quality.requests),
    }


def tables(section: FeedbackSection, findings: Findings, new_labels: list[tuple[str, int]]) -> list[Table]:
    """The tables that have rows."""
    drift = findings.comparison.drift
    pairs: list[list[Number]] = [list(pair) for pair in findings.quality.pairs]
    made = [
        Table("Answers that users corrected the most", ["answered", "right is", "times"], pairs),
        Table("Labels that the data set doesn't know", ["label", "corrections"], [list(pair) for pair in new_labels]),
        volume_table(findings),
    ]  # fmt: skip
    return [table for table in [*(drift_tables(section, drift) if drift else []), *made] if table.rows]


def volume_table(findings: Findings) -> Table:
    """Requests of the last days, and abstentions where there can be any."""
    columns = ["day (UTC)", "requests", "abstained"]
    rows: list[list[Number]] = [[day.day, day.requests, day.abstained] for day in findings.volumes[-DAYS:]]
    shown = len(columns) if findings.signals.certainty else 2
    return Table("Requests a day", columns[:shown], [row[:shown] for row in rows])


def drift_tables(section: FeedbackSection, drift: Drift) -> list[Table]:
    """The tests, and what moved."""
    judged: list[list[Number]] = [
        [found.test, ABOUT[found.test], found.effect, section.drift_effect, found.p, section.drift_p,
         "drift" if found.fires else "ok"]
        for found in drift.findings
    ]  # fmt: skip
    columns = ["test", "what is compared", "effect", "alarm from", "p", "alarm below", "verdict"]
    sizes = f"{drift.new_rows:,} different requests against {drift.old_rows:,} held-out rows"
    return [
        Table(f"Drift: {sizes}", columns, judged),
        _moved("Answers that moved the most", "label", drift.labels),
        _moved("Words that moved the most", "word", drift.words),
        Table("Requests least like the held-out rows", ["text"], [[text[:200]] for text in drift.strangest]),
    ]


def _moved(title: str, what: str, moved: Sequence[Moved]) -> Table:
    rows: list[list[Number]] = [[item.name, f"{item.old:.1%}", f"{item.new:.1%}"] for item in moved]
    return Table(title, [what, "share of held-out rows", "share of requests"], rows)


def curves(findings: Findings) -> list[Curve]:
    """Requests and abstentions over the days."""
    volumes = findings.volumes
    if len(volumes) < 2:
        return []
    lines = {"requests": [(float(at), float(day.requests)) for at, day in enumerate(volumes)]}
    if findings.signals.certainty:
        lines["abstained"] = [(float(at), float(day.abstained)) for at, day in enumerate(volumes)]
    return [Curve("Requests a day", f"days since {volumes[0].day}", "requests", lines)]


def warnings(findings: Findings) -> list[str]:
    """What a person should know before trusting the figures."""
    quality, harvest, comparison = findings.quality, findings.harvest, findings.comparison
    told = []
    if findings.signals.labels and quality.accuracy is not None:
        told.append(_doubt("estimated_accuracy", "rated or corrected", quality.judged, quality.low, quality.high))
    if not findings.signals.labels and quality.rated:
        told.append(_doubt("liked_share", "rated", quality.rated, quality.liked_low, quality.liked_high))
    if comparison.drift is not None and comparison.known:
        told.append("the traffic differs from the data set, but not from what the champion learned through corrections")
    if comparison.drift is None and quality.requests:
        told.append(f"drift was not measured: {comparison.why}")
    elif comparison.drift is not None and not comparison.drift.strangest:
        told.append("the log keeps no texts (deploy.log_text), so only answers and probabilities were compared")
    if harvest.in_test:
        told.append(f"{harvest.in_test} {findings.learnt_from} are of texts in the test set; they stay out of training")
    if harvest.without_text:
        told.append(f"{harvest.without_text} corrections have no text in the log, so nothing can be learned from them")
    redacted = sum(any(f"<{kind}>" in row["text"] for kind in KINDS) for row in harvest.rows)
    if redacted:
        told.append(
            f"{redacted} harvested texts hold placeholders such as <email>: the log redacts (deploy.redact_log)"
        )
    if not findings.learns and harvest.rows:
        told.append(
            f"{findings.learnt_from} are gathered but not learned, so they are no reason to retrain "
            "(prepare.feedback: false)"
        )
    return told


def _doubt(figure: str, said: str, votes: int, low: float | None, high: float | None) -> str:
    """How little a few votes tell, and which way they lean."""
    few = f", and {votes} are few" if votes < FEW_VOTES else ""
    return (
        f"{figure} rests on the {votes} answers that users {said} (95 % interval {low or 0:.2f} to {high or 0:.2f}"
        f"{few}); users mostly speak up about wrong ones, so the truth is likely higher"
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
