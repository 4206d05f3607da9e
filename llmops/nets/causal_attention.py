"""Causal attention of rows of one length: rotated queries and keys, and the core with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Turned:
    """queries [rows, heads, length, size], divided by the square root of size; keys and values [rows, kv_heads, length,
    size]."""

    queries: Tensor
    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Core:
    """seen [rows * length, heads * size]; `backward` takes what was attended and the gradient of `seen`."""

    seen: Tensor
    backward: Callable[[Turned, Tensor], Turned]


def turn(mixed: Tensor, turns: Tensor, heads: int, kv_heads: int) -> Turned:
    """Queries, keys and values out of one matrix, the first two turned by their positions (Su et al. 2021).

    mixed [rows * length, (heads + 2 * kv_heads) * size], in which the numbers that are turned together lie side by
    side; turns complex [length, size / 2].
    """
    length, half = turns.shape
    parts = mixed.view(-1, length, heads + 2 * kv_heads, 2 * half).transpose(1, 2)
    pairs = torch.view_as_complex(parts[:, :-kv_heads].unflatten(-1, (half, 2)))
    queries = turns.new_empty(len(parts), heads, length, half)
    keys = turns.new_empty(len(parts), kv_heads, length, half)
    torch.mul(pairs[:, :heads], turns * (2 * half) ** -0.5, out=queries)
    torch.mul(pairs[:, heads:], turns, out=keys)
    return Turned(real(queries), real(keys), parts[:, -kv_heads:].contiguous())


def turn_back(grads: Turned, turns: Tensor) -> Tensor:
    """The gradient of `mixed` from those of what `turn` gave."""
    length, half = turns.shape
    rows, heads, kv_heads = len(grads.queries), grads.queries.shape[1], grads.keys.shape[1]
    mixed = grads.queries.new_empty(rows, length, heads + 2 * kv_heads, 2 * half)
    parts = mixed.transpose(1, 2)
    pairs = torch.view_as_complex(parts[:, :-kv_heads].unflatten(-1, (half, 2)))
    back = turns.conj().resolve_conj()
    torch.mul(paired(grads.queries), back * (2 * half) ** -0.5, out=pairs[:, :heads])
    torch.mul(paired(grads.keys), back, out=pairs[:, heads:])
    parts[:, -kv_heads:].copy_(grads.values)
    return mixed.view(rows * length, -1)


def real(numbers: Tensor) -> Tensor:
    """complex [..., n] as float [..., 2 * n], neighbours being a number's two parts."""
    return torch.view_as_real(numbers).flatten(-2)


def paired(numbers: Tensor) -> Tensor:
    """The inverse of `real`."""
    return torch.view_as_complex(numbers.contiguous().unflatten(-1, (numbers.shape[-1] // 2, 2)))


def short_core(turned: Turned, future: Tensor) -> Core:
    """Attention whose weights are held whole, the fastest way for short rows on a CPU; future [length, length] is -inf
    where a query must not look. Heads that share keys (Ainslie et al. 2023) are stacked as more queries of one head."""
    rows, heads, length, size = turned.queries.shape
    shared = heads // turned.keys.shape[1]
    keys, values = turned.keys.view(-1, length, size), turned.values.view(-1, length, size)
    queries = turned.queries.view(len(keys), shared * length, size)
    hidden = (future.repeat(shared, 1) if shared > 1 else future).expand(len(keys), -1, -1)
    weights = torch.baddbmm(hidden, queries, keys.transpose(1, 2)).softmax(-1)
    seen = torch.bmm(weights, values)

    def backward(turned: Turned, grad: Tensor) -> Turned:
        grad = grad.view(rows, length, heads, size).transpose(1, 2).reshape(queries.shape)
        grad_weights = torch.bmm(grad, values.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        return Turned(
            torch.bmm(grad_scores, keys).view(turned.queries.shape),
            torch.bmm(grad_scores.transpose(1, 2), queries).view(turned.keys.shape),
            torch.bmm(weights.transpose(1, 2), grad).view(turned.values.shape),
        )

    return Core(seen.view(rows, heads, length, size).transpose(1, 2).reshape(rows * length, heads * size), backward)


def long_core(turned: Turned) -> Core:
    """Attention that never holds all weights (Dao et al. 2022), as torch brings it."""
    rows, heads, length, size = turned.queries.shape
    inputs = [one.requires_grad_() for one in (turned.queries, turned.keys, turned.values)]
    with torch.enable_grad():
        shared = heads != turned.keys.shape[1]
        queries, keys, values = inputs
        seen = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, scale=1.0, enable_gqa=shared
        )

    def backward(turned: Turned, grad: Tensor) -> Turned:
        grad = grad.view(rows, length, heads, size).transpose(1, 2)
        return Turned(*torch.autograd.grad(seen, inputs, grad))

    return Core(seen.detach().transpose(1, 2).reshape(rows * length, heads * size), backward)
