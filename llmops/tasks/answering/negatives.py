"""Hard negatives: wrong answers that look right, because they share rare words with the question."""

from __future__ import annotations

import numpy as np

from llmops.tasks.answering.ranking import best_first
from llmops.tasks.answering.truth import Truth


def hard_negatives(train: Truth, each: int) -> np.ndarray:
    """For each training row the `each` entries that BM25 ranks highest among training rows' wrong answers (Karpukhin et
    al. 2020), int64 [rows, each]. Where there are too few, a right one fills the place and does no harm."""
    found = np.zeros((len(train.rows), each), np.int64)
    if not each:
        return found
    answers = np.array(sorted(set().union(*train.right)))
    for row, right in enumerate(train.right):
        ranked = answers[best_first(train.shares[row, answers], each + len(right))]
        wrong = [number for number in ranked if number not in right][:each]
        found[row] = [*wrong, *[min(right)] * (each - len(wrong))]
    return found
