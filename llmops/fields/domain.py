"""The domain classifier: can old and new texts be told apart? (A classifier two-sample test, Lopez-Paz and Oquab 2017.)

Texts become hashed words and character n-grams; a ridge classifier is cross-validated, so its answer for a
text never comes from that text. For a fixed split into folds its answers are linear in the old/new marks, one
matrix times the marks, so that a thousand permutations cost one matrix product and the test is exact.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from llmops.fields.permutation import ROUNDS, Floats, Shift, against_chance, mid_ranks

BUCKETS = 8192
FOLDS = 5
RIDGE = 1.0
CHARACTERS = 400
"""Longer texts are judged by their beginning, which bounds the time."""
# A Chinese or Japanese character counts as a word: these scripts put no spaces between words.
WORD = re.compile(r"<\w+>|[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:['\u2019][^\W\d_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, case folded; a placeholder such as <email> is one word."""
    return WORD.findall(text.casefold())


def tell_apart(old: Sequence[str], new: Sequence[str], rng: np.random.Generator) -> tuple[Shift, Floats]:
    """How well old and new texts are told apart, effect 2 * AUC - 1, and for each new text how new it looks.

    The second is a float array [len(new)]; larger means less like the old texts. Costs about 2 s for 500
    against 500 long texts on one core; both sides must have at least `FOLDS` texts.
    """
    features = _features([*old, *new])
    rows = len(features)
    fold = rng.permutation(np.arange(rows) % FOLDS)
    answer = _cross_answers(features @ features.T, fold)
    mark = np.where(np.arange(rows) < len(old), -len(new) / rows, len(old) / rows)
    marks = np.column_stack([mark, *(rng.permutation(mark) for _ in range(ROUNDS))]).astype(np.float32)
    scores = answer @ marks
    found = 2.0 * _auc(scores, marks > 0, fold) - 1.0
    return against_chance(float(found[0]), found[1:]), scores[len(old) :, 0].astype(np.float64)


def _features(texts: Sequence[str]) -> Any:
    """Hashed features [rows, BUCKETS] float32: presence, weighted by rarity (idf), rows of length 1."""
    found = np.zeros((len(texts), BUCKETS), np.float32)
    for row, text in enumerate(texts):
        for name in set(_names(text[:CHARACTERS])):
            code = zlib.crc32(name.encode("utf-8", "replace"))
            found[row, code % BUCKETS] += 1.0 if code & 0x80000000 else -1.0
    seen = np.count_nonzero(found, axis=0)
    found *= np.log((1 + len(texts)) / (1 + seen)).astype(np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def _names(text: str) -> Iterator[str]:
    """Words, pairs of neighbouring words, and the three to four character pieces of each word."""
    found = words(text)
    yield from found
    yield from map(" ".join, pairwise(found))
    for word in found:
        edged = f"_{word}_"
        for length in (3, 4):
            yield from (f"#{edged[at : at + length]}" for at in range(len(edged) - length + 1))


def _cross_answers(kernel: Any, fold: Any) -> Any:
    """The matrix [rows, rows] that turns marks into cross-validated answers of a kernel ridge classifier."""
    answer = np.zeros_like(kernel)
    for part in range(FOLDS):
        out, rest = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        inner = kernel[np.ix_(rest, rest)] + RIDGE * np.eye(len(rest), dtype=kernel.dtype)
        answer[np.ix_(out, rest)] = np.linalg.solve(inner, kernel[np.ix_(rest, out)]).T
    return answer


def _auc(scores: Any, is_new: Any, fold: Any) -> Floats:
    """Area under the ROC curve of each column, the folds' areas weighted by their pairs: answers of different
    folds come from different classifiers and don't compare."""
    won, pairs = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for part in range(FOLDS):
        ranks, new = mid_ranks(scores[fold == part]), is_new[fold == part]
        count = new.sum(axis=0)
        won += (ranks * new).sum(axis=0) - count * (count + 1) / 2
        pairs += count * (len(new) - count)
    return won / np.maximum(pairs, 1)
