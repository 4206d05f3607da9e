"""Keys of texts: what makes two texts the same, a row's id, and its place between 0 and 1. Stable for ever:
a change here moves rows between training and test."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any

import numpy as np

APOSTROPHES = "'\u2019\u2018\u02bc`\u00b4"


class _Plain(dict[int, str | None]):
    """A table for str.translate that is filled as characters turn up: apostrophes vanish, other punctuation,
    white space and control characters become a space. Symbols stay: an emoji may be all that a text says."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        if character in APOSTROPHES:
            self[code] = None
        else:
            self[code] = " " if unicodedata.category(character)[0] in "PZC" else character
        return self[code]


_PLAIN = _Plain()


def normalise(text: str) -> str:
    """What two texts must share to count as the same: NFKC, case folded, punctuation and white space evened out.

    A text of nothing but punctuation stays as it is (`?!` is not `...`).
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_PLAIN).split()) or folded.strip()


def row_id(text: str, group: str | None = None) -> str:
    """Sixteen hex digits that name a row: sha256 of its cleaned text, and of its group when it has one."""
    return _sha(text if group is None else f"{text}\0{group}").hexdigest()[:16]


def place(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone; over many keys it is uniform."""
    return int.from_bytes(_sha(key).digest()[:7], "big") / 2**56


def key_of(key: str) -> int:
    """64 bits of a key's sha256; `place_of` says where it lies."""
    return int.from_bytes(_sha(key).digest()[:8], "big")


def place_of(keys: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`place` of many keys at once, from their `key_of`."""
    return (keys >> np.uint64(8)).astype(np.float64) / 2.0**56


def _sha(key: str) -> hashlib._Hash:
    return hashlib.sha256(key.encode("utf-8", "replace"))
