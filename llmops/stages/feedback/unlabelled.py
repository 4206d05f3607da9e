"""Unlabelled: texts that users sent and nobody corrected, left for the next training where its config asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.core.protocols import Job, Row
from llmops.core.report import Report
from llmops.records.trafficreader import TrafficReader
from llmops.records.unlabelled import traffic_file
from llmops.stages.feedback import harvest
from llmops.stages.feedback.harvest import Rule

MOST = 20_000
"""Texts in the file."""
READ = 3 * MOST
"""Requests that are looked at, the newest: many ask the same."""
RENEWED_FROM = 0.1
"""Share of the texts that must have changed before the file does: what is in it decides the model, and a handful of
requests is no reason to train again."""


def leave(job: Job, log: TrafficReader) -> None:
    """Write the newest texts of the log (of all versions), each once, without what somebody corrected; whole or not at
    all, as the log keeps them. What the log forgets, the file forgets when it is next written. It stays as it is while
    little has changed, and where the log keeps no contents."""
    path, column = traffic_file(job.places), job.task.columns(job.sections["task"])[0]
    texts = newest_texts(job, log)
    if texts and changed(texts, read_texts(path, column)) >= RENEWED_FROM:
        job.room.say(f"{len(texts):,} texts that nobody corrected are left for the next training")
        harvest.write(path, [{column: text} for text in texts])


def newest_texts(job: Job, log: TrafficReader) -> list[str]:
    """The texts of the log's newest requests, the newest first."""
    rule = Rule.of(job.task, job.sections["task"])
    [field, *_] = rule.kinds
    done = set(rule.inputs(asked(rule, (said.request for said in log.judged() if said.correction is not None))))
    rows = asked(rule, (logged.request for logged in reversed(log.requests(newest=READ))))
    texts: list[str] = []
    for key, row in zip(rule.inputs(rows), rows, strict=True):
        if key not in done:
            done.add(key)
            texts.append(row[field])
    return texts[:MOST]


def asked(rule: Rule, requests: Iterable[Mapping[str, Any] | None]) -> list[Row]:
    """What requests asked, of those that say."""
    found = (rule.asked(request) for request in requests if request is not None)
    return [row for row in found if row is not None]


def read_texts(path: Path, column: str) -> list[str]:
    """The texts of the file; none where there is no such file, or another wrote it."""
    try:
        return [json.loads(line)[column] for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def changed(now: Sequence[str], before: Sequence[str]) -> float:
    """Share of all these texts that stand on one side alone."""
    return len({*now} ^ {*before}) / max(1, len({*now} | {*before}))


def tell(report: Report, job: Job) -> None:
    """Say in the report what the file holds."""
    texts = read_texts(traffic_file(job.places), job.task.columns(job.sections["task"])[0])
    report.numbers["unlabelled_texts"] = len(texts)
    if not texts and report.numbers["requests"]:
        report.warnings.append(
            "no text is there for `prepare.unlabelled`: all were corrected, or the log keeps no contents "
            "(deploy.log_text)"
        )
