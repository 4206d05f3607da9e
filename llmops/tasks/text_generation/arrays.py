"""Split: the arrays of a split, and how many bytes of text a token stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.artifact import write_whole
from llmops.tasks.text_generation.pieces import Pieces
from llmops.tasks.text_generation.rows import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Split:
    """The arrays of a split (their kinds: see `write`), and how many examples were cut, were cut within their last
    exchange, or are asked for in other tokens than they were trained on."""

    tokens: Array
    offsets: Array
    trained: Array
    documents: Array
    cut: int
    cut_within: int
    unlike: int

    @property
    def learnt(self) -> Array:
        """The tokens on which loss is taken."""
        found: Array = self.tokens[self.trained.astype(bool)]
        return found

    def write(self, path: Path) -> None:
        """Write as safetensors: `tokens` int32 [total], `offsets` int64 [rows + 1], `trained` uint8 [total] (1: loss is
        taken on predicting this token), `documents` int64 [rows], `labels` int64 [rows], all 0."""
        from safetensors.numpy import save

        arrays = {"tokens": self.tokens, "offsets": self.offsets, "trained": self.trained, "documents": self.documents}
        write_whole(path, save({**arrays, "labels": np.zeros(len(self.documents), np.int64)}))


def split(rows: Sequence[Tokens]) -> Split:
    """Rows as flat arrays."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row.tokens) for row in rows], out=offsets[1:])
    return Split(
        tokens=np.concatenate([np.zeros(0, np.int32), *(row.tokens for row in rows)]),
        offsets=offsets,
        trained=np.concatenate([np.zeros(0, np.uint8), *(row.trained for row in rows)]),
        documents=np.asarray([row.document for row in rows], np.int64),
        cut=len({row.document for row in rows if row.cut}),
        cut_within=len({row.document for row in rows if row.cut == "words"}),
        unlike=len({row.document for row in rows if not row.alike}),
    )


def bytes_per_token(tokenizer: Tokenizer, found: Mapping[str, Split]) -> dict[str, float]:
    """Bytes of UTF-8 that one trained token stands for, on average, in each split; special tokens count as tokens and
    have no bytes. A split without tokens has the train split's figure."""
    pieces = Pieces(tokenizer)
    ratios = {}
    for name, arrays in found.items():
        if len(arrays.learnt):
            ratios[name] = _bytes(pieces, arrays) / len(arrays.learnt)
    return {name: ratios.get(name, ratios["train"]) for name in found}


def _bytes(pieces: Pieces, arrays: Split) -> int:
    if pieces.exact:
        kinds, counts = np.unique(arrays.learnt, return_counts=True)
        return sum(len(pieces.raw(int(kind))) * int(n) for kind, n in zip(kinds, counts, strict=True))
    total = 0
    for first, last in zip(arrays.offsets, arrays.offsets[1:], strict=False):
        learnt = arrays.tokens[first:last][arrays.trained[first:last].astype(bool)]
        total += len(pieces.tokenizer.decode(learnt.tolist()).encode())
    return total
