"""Equal inputs with different sets of labels, settled label by label.

A label stays when at least half of the rows carry it. In a tie it stays, for who labels several things at once is taken
to overlook one more often than to invent one. A correction counts half a row more: who corrects has seen the answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from llmops.fields.labelsets import in_words
from llmops.stages.prepare.batch import Batch
from llmops.stages.prepare.dedup import Conflict
from llmops.stages.prepare.rows import Dropped

Labels = tuple[str, ...]


@dataclass
class Votes:
    """What rows with equal inputs say: each set of labels with its votes, and the places of the rows."""

    sets: Counter[Labels] = field(default_factory=Counter)
    corrected: Counter[Labels] = field(default_factory=Counter)
    places: list[int] = field(default_factory=list)

    def settled(self) -> Labels:
        """The labels that at least half of the votes carry."""
        carried: Counter[str] = Counter()
        halves = {labels: 2 * count + self.corrected[labels] for labels, count in self.sets.items()}
        for labels, count in halves.items():
            carried.update(dict.fromkeys(labels, count))
        return tuple(sorted(label for label, count in carried.items() if 2 * count >= sum(halves.values())))


def settle_sets(batch: Batch, dropped: Dropped, corrections: int = 0) -> tuple[Batch, list[Conflict]]:
    """Rows of which those with equal inputs carry the same labels. Of rows that differ those with the settled labels
    stay, or, where none has just these, the first one takes them; it counts for all. The others go as
    `conflicting_label`. The last rows, `corrections` of them, are what feedback brought."""
    labels = batch.labels_of_rows()
    cast: dict[int, Votes] = {}
    for place, (key, count) in enumerate(zip(batch.keys.tolist(), batch.votes.tolist(), strict=True)):
        votes = cast.setdefault(key, Votes())
        votes.sets[labels[place]] += count
        votes.corrected[labels[place]] += place >= len(batch) - corrections
        votes.places.append(place)
    new, counts, kept = list(labels), batch.votes.copy(), np.ones(len(batch), bool)
    told = []
    for votes in cast.values():
        if len(votes.sets) < 2:
            continue
        settled, sets = votes.settled(), {in_words(one): count for one, count in votes.sets.most_common()}
        stays = next((place for place in votes.places if labels[place] == settled), votes.places[0])
        gone = [place for place in votes.places if place != stays]
        told.append(Conflict(batch.row(stays), sets, in_words(settled)))
        dropped.drop_all(batch, gone, "conflicting_label", [{"labels": sets}] * len(gone))
        kept[gone], new[stays], counts[stays] = False, settled, votes.sets.total()
    return batch.with_labels(new, counts).where(kept), told
