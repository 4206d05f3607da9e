"""Windows: the rows of a split as a model is scored on them, the same for trained model, candidate and server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """`tokens` int64 [n] as the model reads them; `trained` bool [n]: whether predicting this token counts.

    The first token of a window has nothing before it and never counts.
    """

    tokens: Array
    trained: Array

    @property
    def counted(self) -> Array:
        """Places of the tokens that count, int64."""
        return np.flatnonzero(self.trained)

    @property
    def targets(self) -> Array:
        """The tokens that count, int64."""
        return self.tokens[self.trained]


def about(dataset: Path) -> dict[str, Any]:
    """generation.json of a data set. Raises DataError when it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((dataset / "generation.json").read_bytes())
        return found
    except (OSError, ValueError) as error:
        raise DataError(f"The data set cannot be read: {error}", str(dataset), "run prepare again.") from error


def windows(dataset: Path, split: str) -> list[Window]:
    """The windows of a split, in its order. Conversations are one window each, and pairs two (chosen, rejected).

    The parts of a document are one text: it is cut into windows that predict `context` tokens each, and the last token
    of a window is read again as the first of the next, so that every token but the document's first counts once.
    """
    from safetensors.numpy import load

    try:
        arrays = load((dataset / f"{split}.safetensors").read_bytes())
    except Exception as error:
        raise DataError(
            f"The encoded rows of {split} cannot be read: {error}", str(dataset), "run prepare again."
        ) from error
    facts = about(dataset)
    return windows_of(arrays, facts["objective"] == "language-model", int(facts["context"]))


def windows_of(arrays: Mapping[str, Array], running: bool, context: int) -> list[Window]:
    """The windows of encoded rows; `running`: they are parts of documents."""
    return list(_cut(arrays, context) if running else _whole(arrays))


def _whole(arrays: Mapping[str, Array]) -> Iterator[Window]:
    offsets = arrays["offsets"]
    for start, end in pairwise(offsets):
        trained = arrays["trained"][start:end].astype(bool)
        trained[:1] = False
        yield Window(arrays["tokens"][start:end].astype(np.int64), trained)


def _cut(arrays: Mapping[str, Array], context: int) -> Iterator[Window]:
    offsets, documents = arrays["offsets"], arrays["documents"]
    edges = np.flatnonzero(np.diff(documents)) + 1
    starts = offsets[:-1][np.concatenate([[0], edges])] if len(documents) else np.zeros(0, np.int64)
    ends = np.append(starts[1:], offsets[-1])
    for start, end in zip(starts, ends, strict=True):
        for place in range(int(start), int(end) - 1, context):
            tokens = arrays["tokens"][place : min(place + context + 1, int(end))].astype(np.int64)
            trained = np.ones(len(tokens), bool)
            trained[0] = False
            yield Window(tokens, trained)
