"""How far a trained model went from the one that it started from: the KL divergence, estimated on answers it draws."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch

from llmops.engine.device import device_of
from llmops.nets.causal import CausalReader
from llmops.tasks.text_generation.assess import per_window
from llmops.tasks.text_generation.packing import Array, Encoded
from llmops.tasks.text_generation.problem import Reading, raw_answers
from llmops.tasks.text_generation.windows import windows_of

TOGETHER = 32
"""Answers drawn at once."""


def divergence(
    trained: CausalReader,
    reference: CausalReader,
    prompts: Sequence[Sequence[int]],
    most: int,
    ends: Collection[int],
    reading: Reading,
    seed: int,
) -> dict[str, float]:
    """kl_per_answer: KL(trained || reference) of whole answers of at most `most` tokens, in nats an answer: the mean
    of log p_trained - log p_reference over one answer to each prompt, drawn by the trained network at temperature 1;
    and its standard error, kl_standard_error. Few answers can put the mean below 0, which the divergence never is."""
    answers = draw_all(trained.network, prompts, most, ends, reading.context, seed)
    ratios = log_ratios(trained, reference, prompts, answers, reading)
    error = float(ratios.std(ddof=1)) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
    return {"kl_per_answer": float(ratios.mean()), "kl_standard_error": error}


def draw_all(
    network: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    most: int,
    ends: Collection[int],
    context: int,
    seed: int,
) -> list[list[int]]:
    """One answer to each prompt, its end token with it; none is longer than `most` or reaches beyond the context."""
    chance = torch.Generator().manual_seed(seed)
    answers = []
    for start in range(0, len(prompts), TOGETHER):
        batch = prompts[start : start + TOGETHER]
        rooms = [min(most, context - len(prompt)) for prompt in batch]
        answers += draw(network, batch, rooms, ends, context, chance)
    return answers


def draw(
    network: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    rooms: Sequence[int],
    ends: Collection[int],
    context: int,
    chance: torch.Generator,
) -> list[list[int]]:
    """Answers of at most `rooms` tokens, drawn side by side at temperature 1; prompts are filled up on the left."""
    device = device_of(network)
    width = max(map(len, prompts))
    step = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    seen = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
    places = (seen.cumsum(-1) - 1).clamp(min=0)
    cache, answers = None, [list[int]() for _ in prompts]
    network.eval()
    with torch.inference_mode():
        while any(unfinished := [open_ended(*one, ends) for one in zip(answers, rooms, strict=True)]):
            found = network(
                input_ids=step, attention_mask=seen, position_ids=places, past_key_values=cache, logits_to_keep=1
            )
            cache = found.past_key_values
            drawn = torch.multinomial(found.logits[:, -1].float().cpu().softmax(-1), 1, generator=chance)
            for answer, token, goes_on in zip(answers, drawn[:, 0].tolist(), unfinished, strict=True):
                if goes_on:
                    answer.append(token)
            # an ended row only keeps the others company, and must not ask for a place that its network lacks
            step, places = drawn.to(device), (places[:, -1:] + 1).clamp(max=context - 1)
            seen = torch.cat([seen, torch.ones_like(step)], 1)
    return answers


def open_ended(answer: Sequence[int], room: int, ends: Collection[int]) -> bool:
    """Whether an answer goes on."""
    return len(answer) < room and not (answer and answer[-1] in ends)


def log_ratios(
    trained: CausalReader,
    reference: CausalReader,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    reading: Reading,
) -> Array:
    """log p_trained - log p_reference of each answer after its prompt, float64 [answers]."""
    rows = encoded(prompts, answers)
    arrays = {"tokens": rows.tokens, "offsets": rows.offsets, "trained": rows.trained}
    seen = windows_of(arrays, running=False, context=reading.context)
    device = device_of(trained.network)
    after, before = (per_window(seen, raw_answers(one, rows, reading, device)["logp"]) for one in (trained, reference))
    return np.asarray(after - before)


def encoded(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Encoded:
    """Prompts with their answers as a split's rows, in which the answers' tokens count."""
    tokens = [token for prompt, answer in zip(prompts, answers, strict=True) for token in (*prompt, *answer)]
    lengths = np.array([[len(prompt), len(answer)] for prompt, answer in zip(prompts, answers, strict=True)])
    return Encoded(
        np.array(tokens, np.int32),
        np.repeat(np.tile([False, True], len(lengths)), lengths.ravel()),
        np.concatenate([[0], lengths.sum(1).cumsum()]),
        np.arange(len(lengths)),
    )
