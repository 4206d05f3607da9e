"""How many operations a training step really does, counted on the tensors that pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from llmops.engine.batching import usual
from llmops.engine.precision import machine_rate
from llmops.engine.state import State
from llmops.engine.step import Stepper, ran_out

aten = torch.ops.aten


def forward_flops(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    """Of torch's attention on a CPU, which the counter doesn't know."""
    return int(sdpa_flop_count(query, key, value))


def backward_flops(grad: Any, query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: forward_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: backward_flops,
}


def counted(step: Any) -> float:
    """Floating point operations of the matrix products that `step()` does, forward and backward. Attention that
    nets/causal.c computes is left out: a few parts in a hundred."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        step()
    return float(counter.get_total_flops())


Utilisation = dict[str, float]
"""flops_per_token, flops_per_s (done in training, all else that took time included), machine_flops_per_s (a large
matrix product on all processes' devices), utilisation: the one as a share of the other (MFU, Chowdhery et al. 2022)."""


def utilisation(stepper: Stepper, batches: Sequence[np.ndarray], state: State) -> Utilisation:
    """How much of the machine a training used; counts the operations of one batch of usual size. Weights stay. Nothing
    where memory is too short to find out."""
    try:
        return measured(stepper, batches, state)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return {}


def measured(stepper: Stepper, batches: Sequence[np.ndarray], state: State) -> Utilisation:
    rows = usual(batches, stepper.problem.cells)
    done = stepper.world.size * counted(lambda: stepper.gradient(rows, 0))
    stepper.optimiser.zero_grad(set_to_none=True)
    per_token = done / max(1, stepper.problem.tokens(rows))
    device = stepper.device.type
    # processes on one CPU share it
    devices = stepper.world.size if device == "cuda" else 1
    machine = devices * machine_rate(device, stepper.settings.precision)
    rate = per_token * state.tokens / max(1e-9, state.seconds)
    return {
        "flops_per_token": per_token,
        "flops_per_s": rate,
        "machine_flops_per_s": machine,
        "utilisation": rate / machine,
    }
