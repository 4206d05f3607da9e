"""Steps of a causal network with gradients written by hand: fewer passes over memory than autograd needs on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

CHUNK = 1 << 20
"""Logits that are held at once: 4 MB of float32, which stay in the cache."""


class Normalise(Function):
    """x / rms(x) (Zhang and Sennrich 2019): x [tokens, width]; the norm's weight is the next layer's affair."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float) -> Tensor:
        scale = torch.linalg.vecdot(x, x).div_(x.shape[-1]).add_(epsilon).rsqrt_().unsqueeze_(-1)
        plain = x * scale
        ctx.save_for_backward(plain, scale)
        return plain

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        plain, scale = ctx.saved_tensors
        inner = torch.linalg.vecdot(grads[0], plain).div_(-plain.shape[-1]).unsqueeze_(-1)
        return (grads[0] * scale).addcmul_(plain, inner.mul_(scale)), None


class SwiGlu(Function):
    """silu(gate) * up (Shazeer 2020): both [tokens, 2 * inner] side by side -> [tokens, inner]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, -1)
        curve = functional.silu(gate)
        ctx.save_for_backward(both, curve)
        return curve * up

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        both, curve = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        grad = torch.empty_like(both)
        grad_gate, grad_up = grad.chunk(2, -1)
        torch.mul(grads[0], curve, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=grad_gate)
        return grad


class Rotate(Function):
    """Queries, keys and values out of one matrix, the first two turned by their positions (Su et al. 2021), the queries
    divided by the square root of their size.

    mixed [rows * length, (heads + 2 * kv_heads) * size], in which the numbers that are turned together lie side by
    side; turns complex [length, size / 2] -> [rows, heads, length, size] and twice [rows, kv_heads, length, size].
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, turns: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        length, half = turns.shape
        parts = mixed.view(-1, length, heads + 2 * kv_heads, 2 * half).transpose(1, 2)
        turned = torch.view_as_complex(parts[:, :-kv_heads].unflatten(-1, (half, 2)))
        scaled = turns * (2 * half) ** -0.5
        ctx.save_for_backward(scaled.conj().resolve_conj(), turns.conj().resolve_conj())
        ctx.heads, ctx.kv_heads = heads, kv_heads
        queries, keys = (
            turns.new_empty(len(parts), heads, length, half),
            turns.new_empty(len(parts), kv_heads, length, half),
        )
        torch.mul(turned[:, :heads], scaled, out=queries)
        torch.mul(turned[:, heads:], turns, out=keys)
        return real(queries), real(keys), parts[:, -kv_heads:].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        back_queries, back_keys = ctx.saved_tensors
        length, half = back_keys.shape
        rows, heads, kv_heads = len(grads[0]), ctx.heads, ctx.kv_heads
        mixed = grads[0].new_empty(rows, length, heads + 2 * kv_heads, 2 * half)
        parts = mixed.transpose(1, 2)
        turned = torch.view_as_complex(parts[:, :-kv_heads].unflatten(-1, (half, 2)))
        torch.mul(paired(grads[0]), back_queries, out=turned[:, :heads])
        torch.mul(paired(grads[1]), back_keys, out=turned[:, heads:])
        parts[:, -kv_heads:].copy_(grads[2])
        return mixed.view(rows * length, -1), None, None, None


def real(numbers: Tensor) -> Tensor:
    """complex [..., n] as float [..., 2 * n], neighbours being a number's two parts."""
    return torch.view_as_real(numbers).flatten(-2)


def paired(numbers: Tensor) -> Tensor:
    """The inverse of `real`."""
    return torch.view_as_complex(numbers.contiguous().unflatten(-1, (numbers.shape[-1] // 2, 2)))


class ShortAttention(Function):
    """Causal attention (Vaswani et al. 2017) whose weights are held whole: the fastest way for short rows on a CPU.

    queries [rows, heads, length, size], already scaled, keys and values [rows, kv_heads, length, size], future [length,
    length] (-inf where a query must not look) -> [rows * length, heads * size]. Heads that share keys (Ainslie et al.
    2023) are stacked as more queries of one head.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, future: Tensor) -> Tensor:
        rows, heads, length, size = queries.shape
        shared = heads // keys.shape[1]
        stacked = queries.view(-1, shared * length, size)
        flat_keys, flat_values = keys.view(-1, length, size), values.view(-1, length, size)
        hidden = future.repeat(shared, 1).expand(len(stacked), -1, -1)
        weights = torch.baddbmm(hidden, stacked, flat_keys.transpose(1, 2)).softmax(-1)
        ctx.save_for_backward(stacked, flat_keys, flat_values, weights)
        ctx.shape = queries.shape
        seen = torch.bmm(weights, flat_values)
        return seen.view(rows, heads, length, size).transpose(1, 2).reshape(rows * length, heads * size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, keys, values, weights = ctx.saved_tensors
        rows, heads, length, size = ctx.shape
        grad = grads[0].view(rows, length, heads, size).transpose(1, 2).reshape(queries.shape)
        grad_values = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, values.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_queries = torch.bmm(grad_scores, keys)
        grad_keys = torch.bmm(grad_scores.transpose(1, 2), queries)
        shape = (rows, -1, length, size)
        return grad_queries.view(shape), grad_keys.view(shape), grad_values.view(shape), None


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
