"""What feedback found, told to people: headline, figures, tables, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops.core.report import Curve, Number, Report, Table
from llmops.records.redaction import KINDS
from llmops.records.trafficreader import Volume
from llmops.stages.feedback.comparison import Comparison
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import ABOUT, Drift
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.movers import Moved
from llmops.stages.feedback.quality import Quality
from llmops.stages.feedback.triggers import Champion

DAYS = 14
"""Days in the table of volumes; the curve holds all."""
FEW_VOTES = 30


@dataclass(frozen=True)
class Findings:
    """All that the stage found. `champion` is None before the first promotion; `learns` says whether prepare
    takes the harvest."""

    champion: Champion | None
    quality: Quality
    volumes: Sequence[Volume]
    harvest: Harvest
    comparison: Comparison
    learns: bool

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
        curves=curves(findings.volumes),
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
        f"no retrain is due: {findings.corrections_new} new corrections, "
        f"{_drift_in_words(findings.comparison)}, {findings.quality.requests:,} requests"
    )


def _drift_in_words(comparison: Comparison) -> str:
    if comparison.drift is None:
        return f"drift unknown ({comparison.why})"
    return "drift that the champion has learned from already" if comparison.known else "no drift"


def numbers(findings: Findings, verdict: dict[str, Any], new_labels: int) -> dict[str, Number]:
    """The figures for gates and scripts; shares lie between 0 and 1."""
    quality, harvest = findings.quality, findings.harvest
    return {
        "requests": quality.requests,
        "abstained_share": _share(quality.abstained, quality.requests),
        "rated": quality.rated,
        "rated_share": _share(quality.rated, quality.requests),
        "liked_share": _share(quality.liked, quality.rated),
        "corrections": quality.corrected,
        "corrections_new": findings.corrections_new,
        "judged": quality.judged,
        "estimated_accuracy": quality.accuracy,
        "estimated_accuracy_low": quality.low,
        "estimated_accuracy_high": quality.high,
        "harvest_rows": len(harvest.rows),
        "harvest_added": harvest.added,
        "harvest_in_test": harvest.in_test,
        "new_labels": new_labels,
        "drift": verdict["drift"]["fires"],
        "drift_effect": findings.comparison.drift.effect if findings.comparison.drift else None,
        "due": verdict["due"],
        "champion_age_s": verdict["champion_age_s"],
    }  # fmt: skip


def tables(section: FeedbackSection, findings: Findings, new_labels: list[tuple[str, int]]) -> list[Table]:
    """The tables that have rows."""
    drift = findings.comparison.drift
    pairs: list[list[Number]] = [list(pair) for pair in findings.quality.pairs]
    made = [
        Table("Answers that users corrected the most", ["answered", "right is", "times"], pairs),
        Table("Labels that the data set doesn't know", ["label", "corrections"], [list(pair) for pair in new_labels]),
        Table(
            "Requests a day", ["day (UTC)", "requests", "abstained"],
            [[day.day, day.requests, day.abstained] for day in findings.volumes[-DAYS:]],
        ),
    ]  # fmt: skip
    return [table for table in [*(drift_tables(section, drift) if drift else []), *made] if table.rows]


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


def curves(volumes: Sequence[Volume]) -> list[Curve]:
    """Requests and abstentions over the days."""
    if len(volumes) < 2:
        return []
    lines = {
        "requests": [(float(at), float(day.requests)) for at, day in enumerate(volumes)],
        "abstained": [(float(at), float(day.abstained)) for at, day in enumerate(volumes)],
    }
    return [Curve("Requests a day", f"days since {volumes[0].day}", "requests", lines)]


def warnings(findings: Findings) -> list[str]:
    """What a person should know before trusting the figures."""
    quality, harvest, comparison = findings.quality, findings.harvest, findings.comparison
    told = []
    if quality.accuracy is not None:
        few = f", and {quality.judged} are few" if quality.judged < FEW_VOTES else ""
        told.append(
            f"estimated_accuracy rests on the {quality.judged} answers that users rated or corrected "
            f"(95 % interval {quality.low:.2f} to {quality.high:.2f}{few}); users mostly speak up about wrong ones, "
            "so the truth is likely higher"
        )
    if comparison.drift is not None and comparison.known:
        told.append("the traffic differs from the data set, but not from what the champion learned through corrections")
    if comparison.drift is None and quality.requests:
        told.append(f"drift was not measured: {comparison.why}")
    elif comparison.drift is not None and not comparison.drift.strangest:
        told.append("the log keeps no texts (deploy.log_text), so only answers and probabilities were compared")
    if harvest.in_test:
        told.append(f"{harvest.in_test} corrections are of texts in the test set; they stay out of training")
    if harvest.without_text:
        told.append(f"{harvest.without_text} corrections have no text in the log, so nothing can be learned from them")
    redacted = sum(any(f"<{kind}>" in row["text"] for kind in KINDS) for row in harvest.rows)
    if redacted:
        told.append(
            f"{redacted} harvested texts hold placeholders such as <email>: the log redacts (deploy.redact_log)"
        )
    if not findings.learns and harvest.rows:
        told.append(
            "corrections are gathered but not learned, so they are no reason to retrain (prepare.feedback: false)"
        )
    return told


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
