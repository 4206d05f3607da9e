"""NearIndex: texts that all but agree, found without comparing all with all, and without missing one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.protocols import Row

if TYPE_CHECKING:
    Tokens = np.ndarray[Any, np.dtype[np.uint64]]

SHINGLE = 4  # characters; also right for languages that don't set words apart by spaces
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the usual multiplicative hash (Knuth, TAOCP 3, 6.4)


class NearIndex:
    """Texts by their shingles; `offer` and `twin` find the earliest whose Jaccard similarity is `similarity` or more.

    Prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): two sets that similar must share one of their
    few rarest shingles, so only rows that do are compared, exactly. Unlike MinHash, which proposes by chance, this
    misses none; the result depends on the texts and their order alone, and time grows about linearly with rows.
    """

    def __init__(self, similarity: float, keys: Sequence[str]) -> None:
        """`keys` are the normalised texts to come; they tell which shingles are rare (others may come as well)."""
        self._similarity = similarity
        every = [shingles(key) for key in keys]
        self._seen, self._counts = np.unique(np.concatenate([np.empty(0, np.uint64), *every]), return_counts=True)
        self._rows: list[Row] = []
        self._tokens: list[Tokens] = []
        self._by_token: dict[int, list[int]] = {}

    def offer(self, key: str, row: Row) -> Row | None:
        """The earliest twin of the text `key`; without one, `row` joins the index under it and None is returned."""
        tokens = shingles(key)
        rare = self._rarest(tokens)
        twin = self._find(tokens, rare)
        if twin is None:
            for token in rare:
                self._by_token.setdefault(token, []).append(len(self._rows))
            self._rows.append(row)
            self._tokens.append(tokens)
        return twin

    def twin(self, key: str) -> Row | None:
        """The earliest twin of the text `key`, or None."""
        tokens = shingles(key)
        return self._find(tokens, self._rarest(tokens))

    def _rarest(self, tokens: Tokens) -> list[int]:
        """As many of the rarest shingles as a twin can't all lack: one more than may differ."""
        at = np.minimum(np.searchsorted(self._seen, tokens), max(0, len(self._seen) - 1))
        counts = np.where(self._seen[at] == tokens, self._counts[at], 0) if len(self._seen) else np.zeros(len(tokens))
        prefix = len(tokens) - int(np.ceil(self._similarity * len(tokens) - 1e-9)) + 1
        rarest: list[int] = tokens[np.lexsort((tokens, counts))[:prefix]].tolist()
        return rarest

    def _find(self, tokens: Tokens, rare: list[int]) -> Row | None:
        size, least = len(tokens), self._similarity - 1e-9
        proposed = sorted({number for token in rare for number in self._by_token.get(token, ())})
        near = [n for n in proposed if min(size, len(self._tokens[n])) >= least * max(size, len(self._tokens[n]))]
        if not near:
            return None
        alike = np.flatnonzero(jaccard(tokens, [self._tokens[number] for number in near]) >= least)
        return self._rows[near[alike[0]]] if len(alike) else None


def shingles(key: str) -> Tokens:
    """The hashes of all runs of four characters of a normalised text, sorted, each once; a shorter text is one run."""
    codes = np.frombuffer(key.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < SHINGLE:
        codes = np.concatenate([codes, np.zeros(SHINGLE - len(codes), np.uint64)])
    runs = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for offset in range(SHINGLE):
        runs = (runs ^ codes[offset : offset + len(runs)]) * MULTIPLIER
        runs ^= runs >> np.uint64(29)
    return np.unique(runs)


def jaccard(one: Tokens, others: list[Tokens]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Size of the intersection over the size of the union of one sorted set with each of the others."""
    sizes = np.fromiter(map(len, others), np.int64, len(others))
    every = np.concatenate(others)
    shared = one[np.minimum(np.searchsorted(one, every), len(one) - 1)] == every
    both = np.add.reduceat(shared, np.cumsum(sizes) - sizes, dtype=np.int64)
    return both / (len(one) + sizes - both)
