"""Texts as a served encoder takes them: how long each is, and the padded arrays of a batch. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.protocols import Arrays

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COUNTED = 600
"""Characters of the longest text whose tokens are counted; it is done while other requests are read."""
CHARS_A_TOKEN = 4
"""In longer texts, about."""


def cells(tokenizer: Tokenizer, text: str, most: int) -> int:
    """Tokens of a cleaned text, of which at most `most` are read; estimated where it is long."""
    found = len(text) // CHARS_A_TOKEN if len(text) > COUNTED else len(tokenizer.encode(text).ids)
    return min(max(found, 1), most)


def padded(tokenizer: Tokenizer, texts: Sequence[str]) -> Arrays:
    """Arrays "tokens" and "mask", int64 [texts, length], of cleaned texts, padded to the longest of them."""
    # A text of which cleaning or the tokenizer leaves nothing still needs one place that is not masked, or pooling
    # divides by zero.
    rows = [encoding.ids or [0] for encoding in tokenizer.encode_batch_fast(list(texts))]
    shape = len(rows), max(len(row) for row in rows)
    tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {"tokens": tokens, "mask": mask}
