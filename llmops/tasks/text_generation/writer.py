"""Writes an answer token by token with the trained network, as transformers computes it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from llmops.engine.device import device_of

Written = tuple[list[int], list[tuple[float, float]]]
"""Tokens, the end token left out; and the two best logits at each step, that of the end token too."""


def write(
    network: Any,
    prompt: Sequence[int],
    max_tokens: int,
    end_tokens: Collection[int],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Written:
    """Up to `max_tokens` tokens after `prompt`; an end token ends the answer.

    `temperature` 0 takes the likeliest token, else one is drawn from the likeliest tokens that together have the
    probability `top_p` (Holtzman et al. 2020).
    """
    device = device_of(network)
    chance = torch.Generator().manual_seed(seed)
    tokens: list[int] = []
    best: list[tuple[float, float]] = []
    step = torch.tensor([list(prompt)], device=device)
    cache = None
    network.eval()
    with torch.inference_mode():
        while len(tokens) < max_tokens:
            found = network(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = found.past_key_values, found.logits[0, -1].float().cpu()
            first, second = logits.topk(2).values.tolist()
            best.append((first, second))
            token = chosen(logits, temperature, top_p, chance)
            if token in end_tokens:
                break
            tokens.append(token)
            step = torch.tensor([[token]], device=device)
    return tokens, best


def chosen(logits: Tensor, temperature: float, top_p: float, chance: torch.Generator) -> int:
    """One token: the likeliest, or one drawn."""
    if not temperature:
        return int(logits.argmax())
    shares, order = (logits / temperature).softmax(-1).sort(descending=True)
    shares[shares.cumsum(-1) - shares >= top_p] = 0.0
    return int(order[torch.multinomial(shares, 1, generator=chance)])
