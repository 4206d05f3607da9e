"""How likely a token was, by the model's own logits: before temperature and top_p, as OpenAI's API means it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Named:
    """A token, its log probability in nats, and the likeliest tokens in its place (id, log probability), best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def named(logits: np.ndarray[Any, Any], token: int, top: int) -> Named:
    """`token` and the `top` likeliest by `logits`, float32 [vocabulary]. Of equal logits the smaller id is first, so
    that the first of `top` is the argmax."""
    wide = logits.astype(np.float64)
    peak = wide.max()
    whole = peak + np.log(np.exp(wide - peak).sum())
    likeliest = _likeliest(logits, top) if top else ()
    return Named(token, float(wide[token] - whole), tuple((int(one), float(wide[one] - whole)) for one in likeliest))


def _likeliest(logits: np.ndarray[Any, Any], count: int) -> Any:
    least = np.partition(logits, -count)[-count] if count < len(logits) else -np.inf
    candidates = np.flatnonzero(logits >= least)  # in the order of ids, ties at the edge among them
    return candidates[np.argsort(-logits[candidates], kind="stable")][:count]
