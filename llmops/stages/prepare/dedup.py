"""The verb dedup: conflicting labels, exact duplicates, near duplicates. Of each set of twins the first stays.

A labelled text has one label, so rows with equal texts are twins. Elsewhere one text may have several right answers:
twins are rows with equal texts and equal answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmops.core.protocols import Row
from llmops.fields.neartwins import NearIndex
from llmops.records.twins import twin_key
from llmops.stages.prepare.rows import Dropped


@dataclass
class Conflict:
    """One text with several labels: how often each, and which one stays (None: a tie, all go)."""

    text: str
    labels: dict[str, int]
    kept: str | None


def settle_conflicts(rows: list[Row], dropped: Dropped) -> tuple[list[Row], list[Conflict]]:
    """Rows whose text (row["key"]) carries one label; where it carries several, the label of most rows stays and the
    others go as `conflicting_label`; in a tie all go. A row counts as many times as row["votes"] says (default 1)."""
    votes: dict[str, Counter[str]] = {}
    for row in rows:
        votes.setdefault(row["key"], Counter())[row["label"]] += row.get("votes", 1)
    winners = {key: _winner(counts) for key, counts in votes.items() if len(counts) > 1}
    kept: list[Row] = []
    told: dict[str, Conflict] = {}
    for row in rows:
        winner = winners.get(row["key"], row["label"])
        if row["key"] in winners:
            told.setdefault(row["key"], Conflict(row["text"], dict(votes[row["key"]].most_common()), winner))
        if row["label"] == winner:
            kept.append(row)
        else:
            dropped.drop(row, "conflicting_label", labels=dict(votes[row["key"]]))
    return kept, list(told.values())


def _winner(counts: Counter[str]) -> str | None:
    (first, most), (_, second) = counts.most_common(2)
    return first if most > second else None


def drop_exact(rows: list[Row], dropped: Dropped, labelled: bool = True) -> list[Row]:
    """Rows with a text of their own (row["key"]), or, without labels, with a text and an answer of their own; the
    first of each stays and gathers the votes of the others."""
    first: dict[str, Row] = {}
    for row in rows:
        key = row["key"] if labelled else twin_key(row)
        twin = first.get(key)
        if twin is None:
            first[key] = {**row, "votes": row.get("votes", 1)}
        else:
            twin["votes"] += row.get("votes", 1)
            dropped.drop(row, "duplicate", twin=twin["origin"])
    return list(first.values())


def drop_near(rows: Iterable[Row], index: NearIndex, dropped: Dropped) -> Iterator[Row]:
    """Rows without a near twin in `index`, which grows by every text that stays. Whatever the label or answer: two
    texts that all but agree may not stand on both sides of a split. Equal texts are no near twins; they stay or go
    together."""
    kept: set[str] = set()
    for row in rows:
        twin = None if row["key"] in kept else index.offer(row["key"], row)
        if twin is None:
            kept.add(row["key"])
            yield row
        else:
            said = {"twin_label": twin["label"]} if "label" in twin else {}
            dropped.drop(row, "near_duplicate", twin=twin["origin"], twin_text=twin["text"], **said)
