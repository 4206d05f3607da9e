"""Packing: which pieces of the rows make a step, and how they lie side by side without seeing each other. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.engine.batching import cut_evenly

Array = np.ndarray[Any, Any]

LIKE = 0.875
"""Rows share a rectangle when they are at least this share of its longest..."""
LIKE_TOKENS = 8
"""...or shorter by no more than so many tokens."""


@dataclass(frozen=True)
class Encoded:
    """A split's arrays as prepare wrote them: `tokens` int32 and `trained` bool [total], `offsets` int64 [rows + 1],
    `documents` int64 [rows]."""

    tokens: Array
    trained: Array
    offsets: Array
    documents: Array

    @property
    def lengths(self) -> Array:
        """Tokens of each row, int64 [rows]."""
        return np.asarray(np.diff(self.offsets))

    def rows(self) -> Array:
        """Where each row begins and ends, int64 [rows, 2]."""
        return np.stack([self.offsets[:-1], self.offsets[1:]], 1)

    def texts(self) -> Array:
        """Where each document begins and ends; its rows follow each other. int64 [documents, 2]."""
        first = np.flatnonzero(np.diff(self.documents, prepend=-1)) if len(self.documents) else np.zeros(0, np.int64)
        starts = self.offsets[first]
        return np.stack([starts, np.append(starts[1:], self.offsets[-1:])], 1) if len(first) else np.zeros((0, 2), int)

    @classmethod
    def read(cls, dataset: Path, split: str) -> Encoded:
        """Read a split of a data set folder; DataError when it is missing or torn."""
        from safetensors.numpy import load

        try:
            found = load((dataset / f"{split}.safetensors").read_bytes())
            return cls(found["tokens"], found["trained"].astype(bool), found["offsets"], found["documents"])
        except Exception as problem:
            raise DataError(
                f"The encoded rows of {split} cannot be read: {problem}", str(dataset), "run prepare again."
            ) from problem


@dataclass(frozen=True)
class Laid:
    """Windows laid out for the network.

    `shapes` are rectangles (rows, length), `tokens` int64 [all cells] holds one after the other, 0 where a row is
    shorter. At the cells `places` int64 [n] the next token is predicted and counts: `targets` int64 [n]; `owners` int64
    [n] says which window each belongs to. A window's places are in order.
    """

    shapes: list[tuple[int, int]]
    tokens: Array
    places: Array
    targets: Array
    owners: Array


def windows(spans: Array, context: int, first: Array | None = None) -> Array:
    """Spans of text cut into windows: int64 [windows, 2], start and length.

    A window reads `length` tokens from `start` on and predicts the `length` that follow the first; the next one begins
    with the last that it predicts, so that every token but a span's first is predicted once. Windows are `context`
    long; a span's first one is first[i] long, when that is given and the span is longer than one window.
    """
    found = []
    for index, (start, end) in enumerate(spans):
        predicted = int(end - start) - 1
        if predicted < 1:
            continue
        head = context if first is None or predicted <= context else int(first[index])
        edges = np.concatenate([[0], np.arange(head, predicted, context), [predicted]])
        found.append(np.stack([start + edges[:-1], np.diff(edges)], 1))
    return np.concatenate(found).astype(np.int64) if found else np.zeros((0, 2), np.int64)


def plan_windows(cut: Array, steps: int, seed: int, epoch: int, by_tokens: bool) -> list[Array]:
    """The windows of an epoch, shuffled, in `steps` batches of nearly equal numbers of tokens, or of windows; each
    window once."""
    shuffled = cut[np.random.Generator(np.random.PCG64([seed, epoch])).permutation(len(cut))]
    if not by_tokens:
        return np.array_split(shuffled, steps)
    return [shuffled[part] for part in cut_evenly(shuffled[:, 1], steps)]


def packed_steps(spans: Array, context: int, batch_size: int) -> int:
    """Steps of an epoch when each takes about `batch_size` times `context` tokens; never so many that one is empty."""
    predicted = np.maximum(spans[:, 1] - spans[:, 0] - 1, 0)
    whole = int(predicted.sum())
    return max(1, min(-(-whole // (batch_size * context)), whole // max(1, int(min(context, predicted.max())))))


def first_lengths(spans: Array, context: int, seed: int, epoch: int) -> Array:
    """How long each span's first window is in this epoch, 1 to `context`: the cuts fall elsewhere every time."""
    chance = np.random.Generator(np.random.PCG64([seed, epoch, 1]))
    return np.asarray(chance.integers(1, context + 1, len(spans)))


def lay(data: Encoded, cut: Array) -> Laid:
    """Lay windows out in as few rectangles as hold little padding: rows of like length side by side."""
    order = np.argsort(-cut[:, 1], kind="stable")
    shapes, tokens, places, targets, owners = [], [], [], [], []
    filled = 0
    for rows in rectangles(cut[order, 1]):
        inside = order[rows]
        starts, lengths = cut[inside, 0][:, None], cut[inside, 1][:, None]
        longest = int(lengths[0, 0])
        steps = np.arange(longest)
        real = steps < lengths
        at = np.where(real, starts + steps, 0)
        tokens.append(np.where(real, data.tokens[at], 0).ravel())
        after = np.where(real, at + 1, 0)
        counted = real & data.trained[after]
        places.append(filled + np.flatnonzero(counted))
        targets.append(data.tokens[after[counted]])
        owners.append(np.repeat(inside, counted.sum(1)))
        shapes.append((len(inside), longest))
        filled += len(inside) * longest
    return Laid(shapes, *(np.concatenate(parts).astype(np.int64) for parts in (tokens, places, targets, owners)))


def rectangles(lengths: Array) -> list[slice]:
    """Cut lengths, longest first, where a row would waste too much of its neighbours' length."""
    found, start = [], 0
    while start < len(lengths):
        least = min(LIKE * lengths[start], lengths[start] - LIKE_TOKENS)
        end = int(np.searchsorted(-lengths, -least, side="right"))
        found.append(slice(start, max(end, start + 1)))
        start = found[-1].stop
    return found


def scoring_plan(cut: Array, most: int) -> list[Array]:
    """Numbers of windows, longest first, in batches of at most `most` tokens (one window at least)."""
    order = np.argsort(-cut[:, 1], kind="stable")
    batch = (np.cumsum(cut[order, 1]) - 1) // most
    edges = [0, *(np.flatnonzero(np.diff(batch)) + 1), len(order)]
    return [order[start:end] for start, end in pairwise(edges) if end > start]


def cells(cut: Array) -> int:
    """Cells that `lay` fills for these windows: tokens and padding."""
    lengths = -np.sort(-cut[:, 1])
    return sum((rows.stop - rows.start) * int(lengths[rows.start]) for rows in rectangles(lengths))
