"""The verb dedup: conflicting labels, exact duplicates, near duplicates. Of each set of twins the first stays."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from llmops.core.protocols import Row
from llmops.stages.prepare.rows import Dropped

PERMUTATIONS = 64
SHINGLE = 4  # characters; also right where words are not set apart by spaces
SEED = 1


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
    kept, told = [], {}
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
        twin = index.twin(row["key"])
        if twin is None:
            index.add(row["key"], row)
            yield row
        else:
            dropped.drop(row, "near_duplicate", twin=twin["origin"], twin_text=twin["text"])


@dataclass
class NearIndex:
    """Texts by their shingles. `twin` finds the earliest one at `similarity` or above: MinHash and locality
    sensitive hashing (Broder 1997; Indyk and Motwani 1998) propose, the exact Jaccard similarity decides.

    Time grows with the number of texts, not its square; the result depends on the texts and their order alone.
    """

    similarity: float
    rows: list[Row] = field(default_factory=list)
    _shingles: list[frozenset[int]] = field(default_factory=list)
    _lsh: Any = None

    def __post_init__(self) -> None:
        from datasketch import MinHashLSH  # takes seconds to import

        # A threshold somewhat below the wanted one: a missed twin can't be mended, a false one costs one comparison.
        self._lsh = MinHashLSH(threshold=max(0.1, self.similarity - 0.1), num_perm=PERMUTATIONS)

    def add(self, key: str, row: Row) -> None:
        """Make `row` findable by the text `key`."""
        self._lsh.insert(len(self.rows), _minhash(shingles(key)), check_duplication=False)
        self.rows.append(row)
        self._shingles.append(shingles(key))

    def twin(self, key: str) -> Row | None:
        """The earliest row whose text is as similar to `key` as asked for, or None."""
        wanted = shingles(key)
        for candidate in sorted(self._lsh.query(_minhash(wanted))):
            if jaccard(wanted, self._shingles[candidate]) >= self.similarity:
                return self.rows[candidate]
        return None


def shingles(key: str) -> frozenset[int]:
    """The checksums of all runs of four characters of a normalised text; a shorter text is one shingle."""
    runs = {key[at : at + SHINGLE] for at in range(max(1, len(key) - SHINGLE + 1))}
    return frozenset(zlib.crc32(run.encode()) for run in runs)


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Size of the intersection over the size of the union."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def _minhash(values: frozenset[int]) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int)
    sketch.update_batch(values)
    return sketch
