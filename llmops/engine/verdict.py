"""Which precision a model's steps are faster in here: real batches, long enough, and a verdict that stays.

One batch again and again says little: bfloat16's gain goes by the shape (MiniLM on 2 cores with AVX-512, batches of
about equally many tokens: 1.31 for 50 texts of 10, 0.75 for 34 of 15), and the first step of each new shape costs up to
half a step more, since oneDNN compiles its products for it; a training meets a hundred shapes. So different batches are
measured, both precisions on each, in turns, and what is compared is the sum. The verdict is kept for the processor, the
number of threads and the network.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from llmops.core.artifact import write_json
from llmops.core.machine import folder, processor

LEAST_S, MOST_S = 1.5, 8.0
"""Seconds that each precision is measured, at least and at most."""
LEAST_BATCHES = 12
SURE = 0.15
"""It is enough once the gain lies so far from where the choice turns (a share of it), in both halves of the batches."""
KEPT = "precision.json"


@dataclass(frozen=True)
class Verdict:
    """How many times as fast a step in bfloat16 is; `kept`: it was found out earlier."""

    gain: float
    kept: bool


def verdict(network: nn.Module, rows: int, measure: Callable[[], float]) -> Verdict:
    """What is known of this network's steps of about `rows` rows on this machine; found out by `measure` where nothing
    is."""
    name = key(network, rows)
    known = _known()
    if name in known:
        return Verdict(float(known[name]), True)
    gain = measure()
    _keep({**known, name: gain})
    return Verdict(gain, False)


def gain_of(
    batches: Iterable[np.ndarray],
    step: Callable[[str, np.ndarray], Any],
    turns_at: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """How many times as fast `step(precision, rows)` is in bfloat16, over different batches, `turns_at` being the gain
    from which it is taken. The first batch only warms up."""
    took: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for number, rows in enumerate(batches):
        for name in sorted(took, reverse=bool(number % 2)):
            began = clock()
            step(name, rows)
            if number:
                took[name].append(clock() - began)
        spent = sum(took["float32"]) + sum(took["bfloat16"])
        if len(took["float32"]) >= LEAST_BATCHES and spent >= 2 * LEAST_S and _sure(took, turns_at):
            break
        if spent >= 2 * MOST_S:
            break
    return sum(took["float32"]) / max(sum(took["bfloat16"]), 1e-9)


def _sure(took: dict[str, list[float]], turns_at: float) -> bool:
    """Whether both halves of the batches say the same, clearly."""
    gains = [sum(took["float32"][half::2]) / sum(took["bfloat16"][half::2]) for half in (0, 1)]
    return min(gains) > turns_at * (1 + SURE) or max(gains) < turns_at * (1 - SURE)


def key(network: nn.Module, rows: int) -> str:
    """What a verdict is kept by: processor, device, threads, torch, the network's shapes, and the size of a batch."""
    shapes = [(name, tuple(value.shape), value.requires_grad) for name, value in network.named_parameters()]
    weight = next(network.parameters())
    where = torch.cuda.get_device_name(weight.device) if weight.device.type == "cuda" else weight.device.type
    told = [
        processor(),
        where.encode(),
        str(torch.get_num_threads()).encode(),
        torch.__version__.encode(),
        repr(shapes).encode(),
    ]
    return hashlib.sha256(b"\0".join([*told, str(rows).encode()])).hexdigest()[:16]


def _path() -> Path:
    return folder() / KEPT


def _known() -> dict[str, float]:
    try:
        found = json.loads(_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(known: dict[str, float]) -> None:
    try:
        write_json(_path(), known)
    except OSError:  # no place to keep it: it is found out again
        return
