"""One key for a whole row, from the keys of its fields. Stable for ever: a row's split is hashed from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llmops.fields.hashing import key_of
from llmops.fields.kind import Keys


def row_keys(columns: Mapping[str, Keys]) -> Keys:
    """64-bit keys of rows. One field's rows have that field's own keys; of several, each key is mixed with its field's
    name, so that neither the order of the fields nor equal values in two of them matter."""
    if len(columns) == 1:
        return next(iter(columns.values()))
    total: Keys | None = None
    for name in sorted(columns):
        mixed = mix(columns[name] ^ np.uint64(key_of(f"field:{name}")))
        total = mixed if total is None else total + mixed
    assert total is not None, "rows have fields"
    return mix(total)


def mix(keys: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of a key moves every bit of the result."""
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
