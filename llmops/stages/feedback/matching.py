"""Matching: which logged request each row of an imported file speaks about."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmops.fields.redaction import KINDS, redact
from llmops.records.traffic import DAY_S, TrafficLog
from llmops.records.trafficreader import TrafficReader
from llmops.stages.feedback.outcomefile import IDENT
from llmops.stages.feedback.said import Said


@dataclass(frozen=True)
class Found:
    """The rows that the log can take, each with a request's id; how many ids it doesn't know, how many of these it
    would only know redacted, and how many own ids several requests held."""

    rows: list[Said]
    unknown: int = 0
    hidden: int = 0
    asked_again: int = 0

    def why(self, deploy: Any) -> str:
        """Why ids of a table's rows may be unknown."""
        if not self.unknown:
            return ""
        kept = f"requests are kept for {deploy.keep_traffic_days:g} days: deploy.keep_traffic_days"
        if not deploy.log_text:
            kept += "; without their contents, only the ids that came with the answers are known: deploy.log_text"
        hidden = f"; {self.hidden} of them look like personal data, which the log redacts: deploy.redact_log"
        return f" ({kept}{hidden if self.hidden and deploy.redact_log else ''})"


def too_old(path: Path, keep_days: float) -> set[str]:
    """Requests that the log forgets now that it is open; whether it has already is a matter of milliseconds."""
    with TrafficReader(path) as reader:
        return {row.id for row in reader.requests(before=time.time() - keep_days * DAY_S)}


def find(log: TrafficLog, path: Path, said: Sequence[Said], field: str | None, old: Container[str]) -> Found:
    """Which request each row speaks about: the one of its id, the newest that held its own id in `field`, or, of a
    whole row, none. Those that are too `old` are not known any more."""
    by_own = {} if field is None else _by_own(path, field, old)
    rows, unknown, hidden = [], 0, 0
    for row in said:
        if row.own is not None and row.own in by_own:
            rows.append(replace(row, id=by_own[row.own][-1], request=None))
        elif row.request is not None or (row.id not in old and log.knows(row.id)):
            rows.append(row)
        else:
            unknown += 1
            hidden += field is not None and redact(row.id, KINDS) != row.id
    again = sum(len(by_own[own]) > 1 for own in {row.own for row in said if row.own is not None} & by_own.keys())
    return Found(rows, unknown, hidden, again)


def _by_own(path: Path, field: str, old: Container[str]) -> dict[str, list[str]]:
    """The requests that held each id in `field`, oldest first."""
    found: dict[str, list[str]] = {}
    with TrafficReader(path) as reader:
        for key, value in reader.own_ids(field):
            own = IDENT.read(value)  # never a list: SQLite gives those as text
            if own is not None and key not in old:
                found.setdefault(own, []).append(key)
    return found
