"""The steps of a causal network that causal.c computes, as torch's autograd takes them; and its loss in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from llmops.nets.kernels import call

PARTS = 16
"""Portions in which the gradient of a norm's weight is summed, whatever the number of threads."""
CHUNK = 1 << 20
"""Logits that are held at once: 4 MB of float32."""


class Norm(Function):
    """x / rms(x) * weight (Zhang and Sennrich 2019): x [tokens, width], weight [width]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        out, scale = torch.empty_like(x), x.new_empty(len(x))
        call("norm_forward", *x.shape, epsilon, x, weight, out, scale)
        ctx.save_for_backward(x, weight, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        grad_x, parts = torch.empty_like(x), x.new_empty(PARTS, x.shape[1])
        call("norm_backward", *x.shape, PARTS, grads[0].contiguous(), x, weight, scale, grad_x, parts)
        return grad_x, parts.sum(0), None


class SwiGlu(Function):
    """silu(gate) * up (Shazeer 2020): both [tokens, 2 * inner] side by side -> [tokens, inner]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        out = both.new_empty(len(both), both.shape[1] // 2)
        call("swiglu_forward", *out.shape, both, out)
        ctx.save_for_backward(both)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        grad = torch.empty_like(both)
        call("swiglu_backward", len(both), both.shape[1] // 2, grads[0].contiguous(), both, grad)
        return grad


class Attention(Function):
    """Causal attention (Vaswani et al. 2017) within rows, queries and keys turned by their positions (Su et al. 2021);
    the weights are computed again for the gradient (Dao et al. 2022).

    mixed [cells, (heads + 2 * kv_heads) * size] holds queries, keys and values of the rectangles `shapes` (rows,
    length), one after the other; cosine, sine [longest, size / 2] -> [cells, heads * size].
    """

    @staticmethod
    def forward(
        ctx: Any,
        mixed: Tensor,
        cosine: Tensor,
        sine: Tensor,
        shapes: tuple[tuple[int, int], ...],
        heads: int,
        kv_heads: int,
    ) -> Tensor:
        size = 2 * cosine.shape[1]
        seen, sums = mixed.new_empty(len(mixed), heads * size), mixed.new_empty(len(mixed), heads)
        start = 0
        for rows, length in shapes:
            cells = slice(start, start + rows * length)
            about = (rows, length, heads, kv_heads, size)
            call("attention_forward", *about, mixed[cells], cosine, sine, seen[cells], sums[cells])
            start = cells.stop
        ctx.save_for_backward(mixed, cosine, sine, seen, sums)
        ctx.about = shapes, heads, kv_heads
        return seen

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mixed, cosine, sine, seen, sums = ctx.saved_tensors
        shapes, heads, kv_heads = ctx.about
        size, out, grad = 2 * cosine.shape[1], torch.empty_like(mixed), grads[0].contiguous()
        start = 0
        for rows, length in shapes:
            cells = slice(start, start + rows * length)
            about = (rows, length, heads, kv_heads, size)
            parts = (mixed[cells], cosine, sine, seen[cells], sums[cells], grad[cells], out[cells])
            call("attention_backward", *about, *parts)
            start = cells.stop
        return out, None, None, None, None, None


class Joint(Function):
    """Several linear layers on the same states [tokens, width] as one product; weights [outputs, width] each."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(states, *weights)
        return states @ stacked(weights).t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, *weights = ctx.saved_tensors
        back = grads[0] @ stacked(weights) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return back, *(None for _ in weights)
        return back, *(grads[0].t() @ states).split([len(weight) for weight in weights])


def stacked(weights: Sequence[Tensor]) -> Tensor:
    """The weights as one matrix; a view where they lie one after the other."""
    if not together(weights):
        return torch.cat(list(weights))
    first = weights[0]
    return first.as_strided((sum(len(weight) for weight in weights), first.shape[1]), (first.shape[1], 1))


def together(weights: Sequence[Tensor]) -> bool:
    """Whether the weights lie one after the other in one piece of memory."""
    ends = [weight.data_ptr() + weight.numel() * weight.element_size() for weight in weights]
    starts = [weight.data_ptr() for weight in weights[1:]]
    return starts == ends[:-1] and len({weight.untyped_storage().data_ptr() for weight in weights}) == 1


def lay_together(layers: Sequence[nn.Linear]) -> None:
    """Put the layers' weights one after the other in memory, so that `stacked` need not copy them."""
    if together([layer.weight for layer in layers]):
        return
    whole = torch.cat([layer.weight.detach() for layer in layers])
    for layer, part in zip(layers, whole.split([len(layer.weight) for layer in layers]), strict=True):
        layer.weight.data = part


class MeanCrossEntropy(Function):
    """Mean cross-entropy of states [tokens, width] under the output layer's weight [vocabulary, width], against
    targets int64 [tokens].

    The gradient is computed at once, chunk by chunk, so that the logits never lie in memory as a whole (as in the
    Liger kernels of Hsu et al. 2024).
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wanted_states, wanted_weight = ctx.needs_input_grad[:2]
        loss = states.new_zeros((), dtype=torch.float64 if states.device.type == "cpu" else torch.float32)
        grad_states = torch.empty_like(states) if wanted_states else None
        grad_weight = torch.zeros_like(weight) if wanted_weight else None
        size = max(1, CHUNK // len(weight))
        for start in range(0, len(states), size):
            part, wanted = states[start : start + size], targets[start : start + size, None]
            logits = part @ weight.t()
            logits -= logits.amax(-1, keepdim=True)
            chosen = logits.gather(-1, wanted)
            total = logits.exp_().sum(-1, keepdim=True)
            loss += (total.log() - chosen).sum()
            logits.div_(total * len(states))
            logits.scatter_add_(-1, wanted, logits.new_full(wanted.shape, -1.0 / len(states)))
            if grad_states is not None:
                torch.mm(logits, weight, out=grad_states[start : start + size])
            if grad_weight is not None:
                grad_weight.addmm_(logits.t(), part)
        ctx.save_for_backward(grad_states, grad_weight)
        return (loss / max(1, len(states))).to(states.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states, weight = ctx.saved_tensors
        return None if states is None else states * grads[0], None if weight is None else weight * grads[0], None
