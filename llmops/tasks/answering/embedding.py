"""Vectors of texts that a client asks for, by the encoder that lays questions beside entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from llmops.core.protocols import Vector


@dataclass(frozen=True)
class TextToEmbed:
    """A text whose vector is wanted; it waits in the same batches as questions."""

    text: str

    @property
    def texts(self) -> tuple[str, ...]:
        """What the encoder reads for it."""
        return (self.text,)


def told(vectors: np.ndarray[Any, Any], texts: Sequence[str], tokenizer: Tokenizer) -> list[Vector]:
    """The vectors float32 [texts, width] of cleaned texts, with what was read of each."""
    read = tokenizer.encode_batch(list(texts))
    return [
        Vector(values.astype(np.float32), max(1, len(one.ids)), bool(one.overflowing))
        for values, one in zip(vectors, read, strict=True)
    ]
