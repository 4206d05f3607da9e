"""How much each column moved the answer of trees: exact Shapley values, in numpy, fast enough for a server.

Path-dependent TreeSHAP (Lundberg et al. 2020): what is not known of a row is averaged over the training rows in each
node. A leaf with the value v is reached when the conditions of its path hold, one interval for each feature on the
path; let r_k be the share of training rows that meet condition k and o_k whether this row does (1 or 0). The leaf's
game is a product, so its Shapley value has a closed form,

    effect of j  =  v (o_j - r_j) * integral over u from 0 to 1 of  prod over k != j of  (r_k (1 - u) + o_k u),

a polynomial in u that a Gauss-Legendre sum of half its degree gives exactly. The effects depend on the row through the
bits o alone; so for short paths (nearly all) they are worked out once for every pattern of bits when the model is
loaded (the idea of FastTreeSHAP v2, Yang 2021), and a row costs one look-up for each feature of each leaf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.tasks.tabular.fitted import TreesFitted

Floats = np.ndarray[Any, Any]
LONGEST = 10
"""Features on a path up to which there are tables."""
BUDGET = 40_000_000
"""Numbers in all tables at most; longer paths are worked out row by row instead."""
CELLS = 200_000
"""Conditions (rows times features of leaves) that are looked up at once: what stays in a core's cache."""


@dataclass(frozen=True)
class Entries:
    """The conditions on the paths, all arrays [entries], ordered by leaf; a leaf's are next to each other. A row meets
    one when low < x <= high, or x is missing and `missing` says so; `share` is r."""

    leaf: Floats
    feature: Floats
    low: Floats
    high: Floats
    missing: Floats
    share: Floats


def entries_of(trees: TreesFitted, leaves: Floats) -> Entries:
    """The conditions of these leaves (node numbers); `Entries.leaf` numbers them from 0."""
    inner = np.flatnonzero(trees.feature >= 0)
    parent = np.full(len(trees.feature), -1)
    parent[trees.left[inner]] = parent[trees.right[inner]] = inner
    at, leaf, found = leaves, np.arange(len(leaves)), []
    while len(at):
        up = parent[at]
        there = up >= 0
        at, leaf, up = at[there], leaf[there], up[there]
        left, limit = trees.left[up] == at, trees.threshold[up]
        found.append(
            (
                leaf,
                trees.feature[up],
                np.where(left, -np.inf, limit),
                np.where(left, limit, np.inf),
                trees.missing_left[up].astype(bool) == left,
                trees.cover[at] / trees.cover[up],
            )
        )
        at = up
    leaf, feature, low, high, missing, share = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((feature, leaf))
    leaf, feature = leaf[order], feature[order].astype(np.int64)
    first = np.flatnonzero((np.diff(leaf, prepend=-1) != 0) | (np.diff(feature, prepend=-1) != 0))
    return Entries(
        leaf[first],
        feature[first],
        np.maximum.reduceat(low[order], first).astype(np.float32),
        np.minimum.reduceat(high[order], first).astype(np.float32),
        np.logical_and.reduceat(missing[order], first),
        np.multiply.reduceat(share[order], first),
    )


def effects_of(share: Floats, met: Floats, value: Floats) -> Floats:
    """Effects of the features of leaves: share and met (0 or 1) [..., features], value [...]; the same shape."""
    points, weights = np.polynomial.legendre.leggauss((share.shape[-1] + 1) // 2)
    total = np.zeros(np.broadcast_shapes(share.shape, met.shape))
    for at, weight in zip((points + 1) / 2, weights / 2, strict=True):
        factors = share * (1 - at) + met * at
        total += weight * factors.prod(axis=-1, keepdims=True) / factors
    return np.asarray(total * (met - share) * value[..., None])


class TreeReasons:
    """The effects of columns on one output of trees."""

    def __init__(self, trees: TreesFitted, output: int, column_of: Floats) -> None:
        """`column_of` int64 [features]: the number of each feature's column."""
        tree_of = np.repeat(np.arange(len(trees.root)), np.diff([*trees.root, len(trees.feature)]))
        leaves = np.flatnonzero((trees.feature < 0) & (trees.output[tree_of] == output))
        value, cover = trees.value[leaves], trees.cover[leaves] / trees.cover[trees.root[tree_of[leaves]]]
        expected = np.bincount(tree_of[leaves], value * cover, len(trees.root))
        value = value - expected[tree_of[leaves]]  # changes no effect, and lets small ones keep their digits
        self.columns = int(column_of.max()) + 1
        self.base = float(trees.base[output] + expected.sum())
        grown = np.flatnonzero(trees.feature[trees.root[tree_of[leaves]]] >= 0)
        self.empty = not len(grown)
        if not self.empty:
            self._build(entries_of(trees, leaves[grown]), value[grown], column_of)

    def _build(self, entries: Entries, value: Floats, column_of: Floats) -> None:
        lengths = np.bincount(entries.leaf)
        self._learn_conditions(entries)
        starts = np.cumsum(lengths) - lengths
        longest = _longest(lengths)
        short = np.flatnonzero(lengths <= longest)
        self.tabled = len(short) > 0
        if self.tabled:
            self._fill_tables(entries, value, lengths, starts, short, column_of)
        self.long = [
            (starts[leaves][:, None] + np.arange(length), value[leaves])
            for length in np.unique(lengths[lengths > longest])
            if len(leaves := np.flatnonzero(lengths == length))
        ]
        self.share, self.column = entries.share, column_of[entries.feature]

    def _learn_conditions(self, entries: Entries) -> None:
        """Many paths share their conditions; each is looked at once a row."""
        limits, code = np.unique(np.concatenate([entries.low, entries.high]), return_inverse=True)
        low, high = code[: len(entries.low)], code[len(entries.low) :]
        codes = ((entries.feature * len(limits) + low) * len(limits) + high) * 2 + entries.missing
        _, first, condition = np.unique(codes, return_index=True, return_inverse=True)
        self.condition = condition.astype(np.int64)
        self.feature, self.missing = entries.feature[first], entries.missing[first]
        self.low, self.high = entries.low[first], entries.high[first]

    def _fill_tables(
        self, entries: Entries, value: Floats, lengths: Floats, starts: Floats, short: Floats, column_of: Floats
    ) -> None:
        """One block for each entry of short paths: its effect for each pattern of its leaf's bits."""
        mine = np.flatnonzero(np.isin(entries.leaf, short))
        leaf = entries.leaf[mine]
        size = 1 << lengths[leaf]
        block = np.zeros(len(entries.leaf), np.int64)
        block[mine] = np.cumsum(size) - size
        self.table = np.empty(int(size.sum()), np.float32)
        for length in np.unique(lengths[short]):
            bits = (np.arange(1 << length)[:, None] >> np.arange(length)) & 1
            leaves = np.flatnonzero(lengths == length)
            for some in np.array_split(leaves, 1 + len(leaves) * bits.size // 1_000_000):
                places = starts[some][:, None] + np.arange(length)
                found = effects_of(entries.share[places][:, None, :], bits[None], value[some][:, None])
                self.table[block[places][:, :, None] + np.arange(1 << length)] = found.transpose(0, 2, 1)
        self.bit_condition = self.condition[mine]
        self.bit = (1 << (mine - starts[leaf])).astype(np.int32)
        self.bit_starts = np.flatnonzero(np.diff(leaf, prepend=-1))
        column = column_of[entries.feature[mine]]
        order = np.argsort(column, kind="stable")
        self.look_block = block[mine][order]
        self.look_leaf = (np.cumsum(np.diff(leaf, prepend=leaf[0]) != 0))[order]
        self.look_columns, self.look_starts = np.unique(column[order], return_index=True)

    def effects(self, x: Floats) -> Floats:
        """float64 [rows, columns] of float32 [rows, features]: with `base` they add up to the trees' answer."""
        made = np.zeros((len(x), self.columns))
        if self.empty:
            return made
        step = max(1, CELLS // len(self.condition))
        for start in range(0, len(x), step):
            rows = x[start : start + step].take(self.feature, axis=1)
            met = (rows > self.low) & (rows <= self.high)
            met |= np.isnan(rows) & self.missing
            if self.tabled:
                self._look_up(met, made[start : start + step])
            for places, value in self.long:
                self._work_out(met, places, value, made[start : start + step])
        return made

    def _look_up(self, met: Floats, made: Floats) -> None:
        patterns = np.add.reduceat(met.take(self.bit_condition, axis=1) * self.bit, self.bit_starts, axis=1)
        places = patterns.take(self.look_leaf, axis=1) + self.look_block
        found = self.table.take(places)
        made[:, self.look_columns] += np.add.reduceat(found, self.look_starts, axis=1, dtype=np.float64)

    def _work_out(self, met: Floats, places: Floats, value: Floats, made: Floats) -> None:
        """The leaves of long paths, `places` [leaves, features] of their entries."""
        for row, bits in enumerate(met):
            found = effects_of(self.share[places], bits[self.condition[places]].astype(np.float64), value)
            made[row] += np.bincount(self.column[places].ravel(), found.ravel(), self.columns)


def _longest(lengths: Floats) -> int:
    """The longest paths that have tables within the budget."""
    counts = np.bincount(lengths, minlength=LONGEST + 1)[: LONGEST + 1]
    sizes = np.cumsum(counts * (1 << np.arange(LONGEST + 1)) * np.arange(LONGEST + 1))
    return int(np.searchsorted(sizes, BUDGET, side="right")) - 1
