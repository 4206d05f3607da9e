"""Sampler: the next token of one answer, chosen by the logits of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Logits = np.ndarray[Any, Any]
SEEDS = 2**64
LIKELY = 256
"""As many tokens as nearly always hold the nucleus; ordering the others is spared then."""
BLOCK = 512


class Sampler:
    """Draws tokens with a random state of its own, so that an answer does not depend on its neighbours."""

    def __init__(
        self,
        temperature: float,
        top_p: float,
        seed: int | None,
        choice: int = 0,
        bias: Mapping[int, float] | None = None,
    ) -> None:
        """`temperature` 0 takes the likeliest token; `top_p` is the share of the probability that is drawn from
        (nucleus sampling, Holtzman et al. 2020); equal seeds give equal draws, another `choice` other ones. `bias` is
        added to the logits of these tokens."""
        self.temperature, self.top_p = temperature, top_p
        drawn_by = None if seed is None else [seed % SEEDS, choice] if choice else seed % SEEDS
        self._random = np.random.default_rng(drawn_by)
        self._biased = np.fromiter(bias or (), np.int64)
        self._bias = np.fromiter((bias or {}).values(), np.float32)

    def choose(self, logits: Logits, allowed: Logits | None = None) -> int:
        """A token by its logits, float32 [vocabulary], of the `allowed` ones (bool [vocabulary], at least one; None:
        all). Of equal logits the smaller id is the likeliest."""
        if len(self._biased):
            logits = logits.copy()
            logits[self._biased] += self._bias
        if allowed is not None:
            logits = np.where(allowed, logits, np.float32(-np.inf))
        if self.temperature <= 0:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()) / np.float32(self.temperature))
        if self.top_p < 1:
            kept = nucleus(weights, self.top_p)
            return int(kept[drawn(weights[kept], self._random.random())])
        return drawn(weights, self._random.random())


def nucleus(weights: Logits, top_p: float) -> Logits:
    """Ids, in their order, of the likeliest tokens that together have at least `top_p` of the sum of `weights`."""
    wanted = top_p * float(weights.sum(dtype=np.float64))
    for count in (LIKELY, len(weights)):
        best = np.partition(weights, -count)[-count:] if count < len(weights) else weights
        ordered = np.sort(best)[::-1]
        sums = ordered.cumsum(dtype=np.float64)
        if sums[-1] >= wanted:
            break
    least = ordered[min(int(np.searchsorted(sums, wanted)), len(ordered) - 1)]
    return np.flatnonzero(weights >= least)


def drawn(weights: Logits, share: float) -> int:
    """The place in `weights` below which `share` (0 to 1) of their sum lies; block by block, since a running sum over
    a whole vocabulary takes longer than all the rest."""
    starts = np.arange(0, len(weights), BLOCK)
    sums = np.add.reduceat(weights, starts).astype(np.float64).cumsum()
    point = min(share * sums[-1], np.nextafter(sums[-1], 0.0))
    block = int(np.searchsorted(sums, point, side="right"))
    inside = weights[starts[block] : starts[block] + BLOCK]
    rest = point - (sums[block - 1] if block else 0.0)
    place = int(np.searchsorted(inside.cumsum(dtype=np.float64), rest, side="right"))
    # The two sums are rounded each in its own way; what has no weight is not drawn for that.
    return int(starts[block]) + min(place, int(np.flatnonzero(inside)[-1]))
