"""The verb dedup: conflicting labels, exact duplicates, near duplicates. Of each set of twins the first stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmops.core.protocols import Row
from llmops.stages.prepare.neartwins import NearIndex
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


def drop_exact(rows: list[Row], dropped: Dropped) -> list[Row]:
    """Rows with a text of their own (row["key"]); the first of each stays and gathers the votes of the others."""
    first: dict[str, Row] = {}
    for row in rows:
        twin = first.get(row["key"])
        if twin is None:
            first[row["key"]] = {**row, "votes": row.get("votes", 1)}
        else:
            twin["votes"] += row.get("votes", 1)
            dropped.drop(row, "duplicate", twin=twin["origin"])
    return list(first.values())


def drop_near(rows: Iterable[Row], index: NearIndex, dropped: Dropped) -> Iterator[Row]:
    """Rows without a near twin in `index`, which grows by every row that stays. Whatever the label: two texts that
    all but agree may not stand on both sides of a split."""
    for row in rows:
        twin = index.offer(row["key"], row)
        if twin is None:
            yield row
        else:
            dropped.drop(row, "near_duplicate", twin=twin["origin"], twin_text=twin["text"], twin_label=twin["label"])
