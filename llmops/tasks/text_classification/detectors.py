"""Detectors: how sure a model is of an answer, in one number that abstaining goes by. numpy only; the server uses them.

All read the logits alone. Those that read the encoder's vector (nearest neighbours, Mahalanobis) were measured and did
not pay for a second output and the training vectors in the bundle; see docs/decisions/0005-abstention.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from llmops.tasks.text_classification.calibration import softmax

Detector = Literal["probability", "margin", "entropy", "energy"]
Array = np.ndarray[Any, Any]


def probability(logits: Array, temperature: float) -> Array:
    """The largest calibrated probability (Hendrycks and Gimpel 2017); 0 to 1."""
    best: Array = softmax(logits, temperature).max(1)
    return best


def margin(logits: Array, temperature: float) -> Array:
    """The best probability less the second best; 0 to 1. With one class, its probability."""
    ranked = np.sort(softmax(logits, temperature), axis=1)
    best: Array = ranked[:, -1] - (ranked[:, -2] if ranked.shape[1] > 1 else 0.0)
    return best


def entropy(logits: Array, temperature: float) -> Array:
    """1 less the entropy of the probabilities as a share of the largest possible; 0 (all alike) to 1 (one is sure)."""
    shares = softmax(logits, temperature)
    spread = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1)
    sure: Array = 1.0 - spread / np.log(max(2, shares.shape[1]))
    return sure


def energy(logits: Array, temperature: float) -> Array:
    """log of the sum of exp(logit): the negative free energy at temperature 1 (Liu et al. 2020); any number.

    What probabilities lose, it keeps: whether any class at all speaks for the text.
    """
    wide = logits.astype(np.float64)
    top = wide.max(1)
    found: Array = top + np.log(np.exp(wide - top[:, None]).sum(1))
    return found


DETECTORS: dict[Detector, Callable[[Array, float], Array]] = {
    "probability": probability,
    "margin": margin,
    "entropy": entropy,
    "energy": energy,
}
"""By name: logits [rows, classes] and the calibration's temperature to float64 [rows]; more is surer. The first is
taken where no other is better."""


def certainty(detector: Detector, logits: Array, temperature: float) -> Array:
    """How sure the model is of its best answer to each row, float64 [rows]."""
    return DETECTORS[detector](logits, temperature)
