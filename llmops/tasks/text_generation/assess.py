"""What raw answers of a writing model are worth: loss and its kin, or rewards of pairs. No torch here.

Raw answers are those of `Learner.predict` and of `measure.read_all`: {"argmax": int [counted tokens], "logp": float32
[counted tokens]}, flat, in the order of the split's windows; for preferences with "reference_logp", float32 [windows].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmops.tasks.text_generation.windows import Window

Answers = Mapping[str, np.ndarray[Any, Any]]


def language_figures(seen: Sequence[Window], answers: Answers, bytes_per_token: float) -> dict[str, float]:
    """loss (nats a counted token), perplexity, bits_per_byte, token_accuracy (share whose likeliest token is right)."""
    targets = np.concatenate([window.targets for window in seen])
    loss = float(-answers["logp"].mean(dtype=np.float64))
    right = float((answers["argmax"] == targets).mean())
    return {**loss_figures(loss, bytes_per_token), "token_accuracy": right}


def loss_figures(loss: float, bytes_per_token: float) -> dict[str, float]:
    """loss, and what is made of it: perplexity and bits_per_byte."""
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": loss / math.log(2) / bytes_per_token,
    }


def preference_figures(seen: Sequence[Window], answers: Answers, beta: float) -> dict[str, float]:
    """Of pairs (window 2i chosen, 2i+1 rejected): reward_accuracy, the share whose chosen answer the model raised more
    against its reference than the rejected one; margin, the mean difference of DPO's implicit rewards (Rafailov et al.
    2023); chosen_gain, the mean of log p - log p_reference over the chosen answers, in nats an answer."""
    gain = per_window(seen, answers["logp"]) - answers["reference_logp"]
    margins = beta * (gain[0::2] - gain[1::2])
    return {
        "reward_accuracy": float((margins > 0).mean()),
        "margin": float(margins.mean()),
        "chosen_gain": float(gain[0::2].mean()),
    }


def per_window(seen: Sequence[Window], logp: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sums of log-probabilities, float64 [windows]."""
    counts = [len(window.counted) for window in seen]
    ends = np.cumsum(counts)
    sums = np.concatenate([[0.0], np.cumsum(logp, dtype=np.float64)])
    return np.asarray(sums[ends] - sums[ends - counts])


def agreement(answers: Answers, others: Answers) -> float:
    """Share of counted tokens on which two models find the same token likeliest."""
    return float((answers["argmax"] == others["argmax"]).mean())
