"""The verb dedup: conflicting labels, exact duplicates, near duplicates. Of each set of twins the first stays.

Where a task settles contradictions, equal inputs have one label (sets of labels: see labelvotes.py), so rows with equal
inputs are twins. Elsewhere one input may have several right answers (and two alike applicants may differ in what became
of them): twins are rows with equal inputs and equal answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.protocols import Row
from llmops.stages.prepare.batch import Batch
from llmops.stages.prepare.rows import Dropped


@dataclass
class Conflict:
    """One row's inputs with several labels: a row of them, how often each label, and which one stays (None: a tie, all
    go)."""

    row: Row
    labels: dict[str, int]
    kept: str | None


def settle_conflicts(batch: Batch, dropped: Dropped) -> tuple[Batch, list[Conflict]]:
    """Rows whose inputs carry one label; where they carry several, the label of most rows stays and the others go as
    `conflicting_label`; in a tie all go. A row counts as many times as its votes say."""
    assert batch.labels is not None
    votes: dict[int, Counter[str]] = {}
    rows = list(zip(batch.keys.tolist(), batch.labels.tolist(), batch.votes.tolist(), strict=True))
    for key, label, count in rows:
        votes.setdefault(key, Counter())[label] += count
    winners = {key: _winner(counts) for key, counts in votes.items() if len(counts) > 1}
    told: dict[int, Conflict] = {}
    kept = np.ones(len(batch), bool)
    for place, (key, label, _) in enumerate(rows):
        if key not in winners:
            continue
        told.setdefault(key, Conflict(batch.row(place), dict(votes[key].most_common()), winners[key]))
        kept[place] = label == winners[key]
    lost = np.flatnonzero(~kept)
    dropped.drop_all(batch, lost, "conflicting_label", [{"labels": dict(votes[rows[place][0]])} for place in lost])
    return batch.where(kept), list(told.values())


def _winner(counts: Counter[str]) -> str | None:
    (first, most), (_, second) = counts.most_common(2)
    return first if most > second else None


def drop_exact(batch: Batch, dropped: Dropped, settles: bool = True) -> Batch:
    """Rows with inputs of their own, or, where nothing is settled, with inputs and an answer of their own; the first of
    each stays and gathers the votes of the others."""
    keys = batch.keys if settles else batch.twins
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    stays = first[group]  # of each row, the place of the twin that stays
    kept = stays == np.arange(len(batch))
    lost = np.flatnonzero(~kept)
    if not len(lost):
        return batch
    origins = batch.rows.take(stays[lost]).values("origin")
    dropped.drop_all(batch, lost, "duplicate", [{"twin": origin} for origin in origins])
    votes = np.bincount(stays, weights=batch.votes, minlength=len(batch)).astype(np.int64)
    made: Batch = type(batch)(**{**vars(batch), "votes": votes})
    return made.where(kept)


def drop_near(batch: Batch, offer: Callable[[Row], Row | None], dropped: Dropped, seen: Callable[[int], Any]) -> Batch:
    """Rows without a near twin. `offer` gives the earliest twin of a row, or takes the row in; `seen` hears how many
    rows were looked at. Whatever the label or answer: two rows that all but agree may not stand on both sides of a
    split. Equal inputs are no near twins; they stay or go together."""
    kept = np.ones(len(batch), bool)
    known: set[int] = set()
    for place, key in enumerate(batch.keys.tolist()):
        row = batch.row(place)
        twin = None if key in known else offer(row)
        if twin is None:
            known.add(key)
        else:
            kept[place] = False
            said = {"twin_label": twin["label"]} if "label" in twin else {}
            dropped.drop(row, "near_duplicate", twin=twin["origin"], twin_row=twin, **said)
        seen(place + 1)
    return batch.where(kept)
