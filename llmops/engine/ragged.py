"""Ragged: rows of different lengths in one flat array, as they lie on disk. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError


@dataclass(frozen=True)
class Ragged:
    """`tokens` int32 [total], `offsets` int64 [rows + 1], `labels` int64 [rows] (-1: no class), or where a row may have
    several labels uint8 [rows, labels] (1: it has the label)."""

    tokens: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [rows]."""
        return np.diff(self.offsets)

    def padded(self, rows: np.ndarray, pad: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Tokens and mask, int64 [len(rows), longest]; the mask is None when no row is padded."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        places = self.offsets[rows][:, None] + np.arange(longest)
        if int(lengths.min()) == longest:
            return self.tokens[places].astype(np.int64), None
        real = np.arange(longest) < lengths[:, None]
        tokens = self.tokens[np.where(real, places, 0)]
        return np.where(real, tokens, pad).astype(np.int64), real.astype(np.int64)

    def write(self, path: Path) -> None:
        """Write as safetensors."""
        from safetensors.numpy import save

        write_whole(path, save({"tokens": self.tokens, "offsets": self.offsets, "labels": self.labels}))

    @classmethod
    def read(cls, path: Path) -> Ragged:
        """Read what `write` wrote; DataError when it is missing or torn."""
        from safetensors.numpy import load

        try:
            arrays = load(path.read_bytes())
            return cls(arrays["tokens"], arrays["offsets"], arrays["labels"])
        except Exception as problem:
            raise DataError(
                f"The encoded rows in {path.name} cannot be read: {problem}", str(path), "run prepare again."
            ) from problem


def ragged(rows: Sequence[Sequence[int]], labels: Sequence[int] | np.ndarray) -> Ragged:
    """A Ragged from lists of token ids, and labels as numbers or as lines of 0 and 1."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    flat = np.fromiter((token for row in rows for token in row), np.int32, int(offsets[-1]))
    numbers = np.asarray(labels)
    return Ragged(flat, offsets, numbers.astype(np.int64 if numbers.ndim == 1 else np.uint8))


def joined(first: Ragged, second: Ragged) -> Ragged:
    """The rows of both, one after the other."""
    offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
    labels = np.concatenate([first.labels, second.labels])
    return Ragged(np.concatenate([first.tokens, second.tokens]), offsets, labels)


def taken(data: Ragged, rows: np.ndarray) -> Ragged:
    """The rows with these numbers, int64, in this order."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(data.lengths[rows])])
    parts = [data.tokens[data.offsets[row] : data.offsets[row + 1]] for row in rows]
    return Ragged(np.concatenate([data.tokens[:0], *parts]), offsets, data.labels[rows])


def first_rows(data: Ragged, rows: int) -> Ragged:
    """The first `rows` rows."""
    kept = min(rows, len(data))
    return Ragged(data.tokens[: data.offsets[kept]], data.offsets[: kept + 1], data.labels[:kept])
