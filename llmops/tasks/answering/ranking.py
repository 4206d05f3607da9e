"""From similarities to ranks and figures: the same arithmetic for the learner, compress, deploy and the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DEPTH = 10
"""Ranks past this one count nothing in `mrr` (as in MS MARCO, Nguyen et al. 2016); a response lists so many entries."""


def blend(similarity: Array, shares: Array, lexical: float) -> Array:
    """Scores float32 [rows, entries] from cosines and BM25 shares of the same shape; `lexical` is BM25's weight."""
    if not lexical:
        return similarity.astype(np.float32)
    return ((1.0 - lexical) * similarity + lexical * shares).astype(np.float32)


def best_first(scores: Array, most: int) -> Array:
    """Numbers of the `most` best entries of one row, the best first; on a tie the lower number."""
    most = min(most, len(scores))
    if most < len(scores):
        # everything that ties with the last one that is kept, so that the stable order decides and not the partition
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        chosen = np.flatnonzero(scores >= least)
    else:
        chosen = np.arange(len(scores))
    return chosen[np.argsort(-scores[chosen], kind="stable")][:most]


def ranks(scores: Array, right: Sequence[frozenset[int]]) -> Array:
    """Rank, from 1, of each row's first right entry, int64 [rows]; 0 where no entry is right."""
    found = np.zeros(len(right), np.int64)
    for row, entries in enumerate(right):
        if entries:
            numbers = np.array(sorted(entries))
            best = numbers[np.argmax(scores[row, numbers])]
            above = scores[row] > scores[row, best]
            tied = np.flatnonzero(scores[row] == scores[row, best])
            found[row] = 1 + int(above.sum()) + int((tied < best).sum())
    return found


def figures(found: Array) -> dict[str, float]:
    """recall_at_1, recall_at_5 and mrr of ranks; 0 without rows."""
    if not len(found):
        return {"recall_at_1": 0.0, "recall_at_5": 0.0, "mrr": 0.0}
    counted = (found > 0) & (found <= DEPTH)
    return {
        "recall_at_1": float((found == 1).mean()),
        "recall_at_5": float(((found > 0) & (found <= 5)).mean()),
        "mrr": float((counted / np.maximum(found, 1)).mean()),
    }
