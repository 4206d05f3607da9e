"""What feedback found, told to people: headline, figures, tables, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from llmops.core.protocols import Row
from llmops.core.report import Curve, Number, Report, Table
from llmops.fields.redaction import KINDS
from llmops.records.trafficreader import Volume
from llmops.stages.feedback.comparison import Comparison
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import Drift
from llmops.stages.feedback.harvest import Harvest
from llmops.stages.feedback.movers import Moved
from llmops.stages.feedback.outcomes import Span
from llmops.stages.feedback.quality import Quality
from llmops.stages.feedback.signals import Signals
from llmops.stages.feedback.triggers import Champion

DAYS = 14
"""Days in the table of volumes; the curve holds all."""
FEW_VOTES = 30


@dataclass(frozen=True)
class Findings:
    """All that the stage found. `champion` is None before the first promotion; `learns` says whether prepare
    takes the harvest; `pairs` are the preference pairs, None for a task that makes none; `versions` the quality of all
    versions."""

    champion: Champion | None
    quality: Quality
    volumes: Sequence[Volume]
    harvest: Harvest
    comparison: Comparison
    learns: bool
    signals: Signals
    pairs: Harvest | None = None
    versions: Sequence[Span] = ()

    @property
    def corrections_new(self) -> int:
        """Rows of the harvest that the champion's training did not read."""
        learned = 0 if self.champion is None else self.champion.harvest_rows
        return max(0, len(self.harvest.rows) - learned)


def tell(section: FeedbackSection, findings: Findings, verdict: dict[str, Any], labels: Sequence[str]) -> Report:
    """The report; `labels` are those that the data set knows."""
    new_labels = findings.harvest.new_labels(labels) if findings.signals.labels else []
    return Report(
        headline=headline(findings, verdict),
        numbers=numbers(findings, verdict, len(new_labels)),
        tables=tables(section, findings, new_labels),
        curves=curves(findings),
        warnings=warnings(findings),
        next=["llmops run CONFIG --if-due"] if verdict["due"] else [],
    )


def headline(findings: Findings, verdict: dict[str, Any]) -> str:
    """The verdict in one sentence; what is wrong with the schema comes first."""
    schema = "; ".join(found.told for found in findings.comparison.schema)
    if findings.comparison.broken:
        held = f" (it would be due: {'; '.join(verdict['held_back'])})" if verdict["held_back"] else ""
        return f"{schema}; mend what sends the requests: until then no retrain is due{held}"
    return f"{schema}; {_verdict(findings, verdict)}" if schema else _verdict(findings, verdict)


def _verdict(findings: Findings, verdict: dict[str, Any]) -> str:
    if verdict["due"]:
        return "a retrain is due: " + "; ".join(verdict["reasons"])
    if findings.champion is None:
        return "nothing is deployed yet, so there is no traffic to read; a retrain is not due"
    if findings.quality.requests == 0:
        return "there is no traffic yet since the champion went live; a retrain is not due"
    return (
        f"no retrain is due: {findings.corrections_new} new {findings.signals.learnt_from}, "
        f"{_drift_in_words(findings.comparison)}, {findings.quality.requests:,} requests"
    )


def _drift_in_words(comparison: Comparison) -> str:
    if comparison.drift is None:
        return f"drift unknown ({comparison.why})"
    return "drift that the champion has learned from already" if comparison.known else "no drift"


def numbers(findings: Findings, verdict: dict[str, Any], new_labels: int) -> dict[str, Number]:
    """The figures for gates and scripts; shares lie between 0 and 1."""
    quality, harvest = findings.quality, findings.harvest
    abstained = {"abstained_share": _share(quality.abstained, quality.requests)} if findings.signals.abstains else {}
    return {
        "requests": quality.requests,
        **abstained,
        "rated": quality.rated,
        "rated_share": _share(quality.rated, quality.requests),
        "liked_share": _share(quality.liked, quality.rated),
        "corrections": quality.corrected,
        "corrections_new": findings.corrections_new,
        "judged": quality.judged,
        **_of_answers(findings, new_labels),
        "harvest_rows": len(harvest.rows),
        "harvest_added": harvest.added,
        "harvest_in_test": harvest.in_test,
        **({} if findings.pairs is None else {"preference_rows": len(findings.pairs.rows)}),
        "drift": verdict["drift"]["fires"],
        "drift_effect": findings.comparison.drift.effect if findings.comparison.drift else None,
        "due": verdict["due"],
        "champion_age_s": verdict["champion_age_s"],
    }  # fmt: skip


def _of_answers(findings: Findings, new_labels: int) -> dict[str, Number]:
    """Figures of answers: of labels and numbers how often, or how far, they were wrong; words have many that may be
    right."""
    quality, signals = findings.quality, findings.signals
    if signals.several:
        found = {**_estimated(quality, "f1_micro"), **_estimated(quality, "subset_accuracy")}
        return {**found, "new_labels": new_labels}
    if signals.labels:
        return {**_estimated(quality, "accuracy"), **_more(quality, "roc_auc"), "new_labels": new_labels}
    if signals.numbers:
        return _estimated(quality, "mae")
    return {
        "liked_share_low": quality.liked_low,
        "liked_share_high": quality.liked_high,
        "corrected_share": _share(quality.corrected, quality.requests),
    }


def _estimated(quality: Quality, name: str) -> dict[str, Number]:
    """A figure with its interval."""
    value, low, high = quality.estimate(name)
    return {f"estimated_{name}": value, f"estimated_{name}_low": low, f"estimated_{name}_high": high}


def _more(quality: Quality, name: str) -> dict[str, Number]:
    """A figure with its interval where there is one."""
    return _estimated(quality, name) if name in quality.figures else {}


def tables(section: FeedbackSection, findings: Findings, new_labels: list[tuple[str, int]]) -> list[Table]:
    """The tables that have rows."""
    drift = findings.comparison.drift
    pairs: list[list[Number]] = [list(pair) for pair in findings.quality.pairs]
    changed: list[list[Number]] = [list(row) for row in findings.quality.changed]
    made = [
        Table("Answers that users corrected the most", ["answered", "right is", "times"], pairs),
        Table("Labels that users changed", ["label", "added", "taken out"], changed),
        Table("Labels that the data set doesn't know", ["label", "corrections"], [list(pair) for pair in new_labels]),
        span_table("Quality by the week of the request", "week of (UTC)", findings.quality.weeks),
        span_table("Quality by version", "version", findings.versions if len(findings.versions) > 1 else []),
        volume_table(findings),
    ]  # fmt: skip
    schema: list[list[Number]] = [
        [found.field, found.told, "mend the sender" if found.broken else "look at it"]
        for found in findings.comparison.schema
    ]
    first = [Table("Requests that look like another export of the data", ["field", "what", "do"], schema)]
    return [table for table in [*first, *(drift_tables(section, drift) if drift else []), *made] if table.rows]


def span_table(title: str, name: str, spans: Sequence[Span]) -> Table:
    """Figures of answers of which something is known, a span a row."""
    names = list(dict.fromkeys(figure for span in spans for figure in span.figures))
    columns = [name, "answers known", *(part for figure in names for part in (figure, "95 % from", "to"))]
    rows: list[list[Number]] = []
    for span in spans:
        found = [span.figures.get(figure) for figure in names]
        cells = [part for one in found for part in ((one.value, one.low, one.high) if one else (None, None, None))]
        rows.append([span.name, span.known, *(None if cell is None else round(cell, 4) for cell in cells)])
    return Table(title, columns, rows)


def volume_table(findings: Findings) -> Table:
    """Requests of the last days, and abstentions where there can be any."""
    columns = ["day (UTC)", "requests", "abstained"]
    rows: list[list[Number]] = [[day.day, day.requests, day.abstained] for day in findings.volumes[-DAYS:]]
    shown = len(columns) if findings.signals.abstains else 2
    return Table("Requests a day", columns[:shown], [row[:shown] for row in rows])


def drift_tables(section: FeedbackSection, drift: Drift) -> list[Table]:
    """The tests, and what moved."""
    judged: list[list[Number]] = [
        [found.test, found.about, found.effect, section.drift_effect, found.p, section.drift_p,
         "drift" if found.fires else "ok"]
        for found in sorted(drift.findings, key=lambda found: not found.fires)
    ]  # fmt: skip
    columns = ["test", "what is compared", "effect", "alarm from", "p", "alarm below", "verdict"]
    sizes = f"{drift.new_rows:,} different requests against {drift.old_rows:,} held-out rows"
    return [
        Table(f"Drift: {sizes}", columns, judged),
        Table("What moved", ["test", "held-out rows -> requests"], [list(line) for line in drift.told]),
        _moved("Answers that moved the most", "label", drift.labels),
    ]


def _moved(title: str, what: str, moved: Sequence[Moved]) -> Table:
    rows: list[list[Number]] = [[item.name, f"{item.old:.1%}", f"{item.new:.1%}"] for item in moved]
    return Table(title, [what, "share of held-out rows", "share of requests"], rows)


def curves(findings: Findings) -> list[Curve]:
    """Requests and abstentions over the days, quality over the weeks."""
    return [*_volume_curve(findings), *_quality_curves(findings.quality.weeks)]


def _quality_curves(weeks: Sequence[Span]) -> list[Curve]:
    """A curve for each figure, between the curves of its interval."""
    if len(weeks) < 2:
        return []
    made = []
    begins = [date.fromisoformat(week.name) for week in weeks]
    for name in dict.fromkeys(figure for week in weeks for figure in week.figures):
        lines: dict[str, list[tuple[float, float]]] = {name: [], "95 % from": [], "to": []}
        for begin, week in zip(begins, weeks, strict=True):
            if (found := week.figures.get(name)) is None:
                continue
            at = (begin - begins[0]).days / 7
            for line, value in zip(lines.values(), (found.value, found.low, found.high), strict=True):
                line += [] if value is None else [(at, value)]
        made.append(Curve(f"{name} of answers by week", f"weeks since {weeks[0].name}", name, lines))
    return made


def _volume_curve(findings: Findings) -> list[Curve]:
    volumes = findings.volumes
    if len(volumes) < 2:
        return []
    lines = {"requests": [(float(at), float(day.requests)) for at, day in enumerate(volumes)]}
    if findings.signals.abstains:
        lines["abstained"] = [(float(at), float(day.abstained)) for at, day in enumerate(volumes)]
    return [Curve("Requests a day", f"days since {volumes[0].day}", "requests", lines)]


def warnings(findings: Findings) -> list[str]:
    """What a person should know before trusting the figures."""
    comparison = findings.comparison
    mends = "; it is no reason to retrain but to mend what sends the requests: nothing is learnt from them until then"
    schema = [found.told + (mends if found.broken else "") for found in comparison.schema]
    return [*schema, *_doubts(findings), *_of_drift(findings), *_of_harvest(findings)]


def _doubts(findings: Findings) -> list[str]:
    """How little the figures rest on."""
    quality, signals = findings.quality, findings.signals
    if signals.outcomes and quality.figures:
        few = f", and {quality.judged} are few" if quality.judged < FEW_VOTES else ""
        return [f"the estimates rest on the {quality.judged} answers whose outcome is known{few}"]
    headline = "subset_accuracy" if signals.several else "accuracy"
    if signals.labels and headline in quality.figures:
        _, low, high = quality.estimate(headline)
        return [_doubt(f"estimated_{headline}", "rated or corrected", quality.judged, low, high)]
    if not (signals.labels or signals.numbers) and quality.rated:
        return [_doubt("liked_share", "rated", quality.rated, quality.liked_low, quality.liked_high)]
    return []


def _of_drift(findings: Findings) -> list[str]:
    comparison, told = findings.comparison, []
    if comparison.drift is not None and comparison.known:
        told.append("the traffic differs from the data set, but not from what the champion learned through corrections")
    if comparison.drift is None and findings.quality.requests:
        told.append(f"drift was not measured: {comparison.why}")
    elif comparison.drift is not None and not comparison.drift.kept:
        told.append("the log keeps no contents (deploy.log_text), so only answers were compared")
    return told


def _of_harvest(findings: Findings) -> list[str]:
    harvest, what, told = findings.harvest, findings.signals.learnt_from, []
    if harvest.in_test:
        told.append(f"{harvest.in_test} {what} are of rows in the test set; they stay out of training")
    if harvest.without_contents:
        told.append(
            f"{harvest.without_contents} corrections are of requests whose contents the log did not keep, or not in a "
            "form that can be read, so nothing can be learned from them"
        )
    redacted = sum(_is_redacted(row) for row in harvest.rows)
    if redacted:
        told.append(f"{redacted} harvested rows hold placeholders such as <email>: the log redacts (deploy.redact_log)")
    if not findings.learns and harvest.rows:
        told.append(f"{what} are gathered but not learned, so they are no reason to retrain (prepare.feedback: false)")
    return told


def _is_redacted(row: Row) -> bool:
    """Whether a field holds a placeholder."""
    texts = [value for value in row.values() if isinstance(value, str) and "<" in value]
    return any(f"<{kind}>" in text for kind in KINDS for text in texts)


def _doubt(figure: str, said: str, votes: int, low: float | None, high: float | None) -> str:
    """How little a few votes tell, and which way they lean."""
    few = f", and {votes} are few" if votes < FEW_VOTES else ""
    return (
        f"{figure} rests on the {votes} answers that users {said} (95 % interval {low or 0:.2f} to {high or 0:.2f}"
        f"{few}); users mostly speak up about wrong ones, so the truth is likely higher"
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
