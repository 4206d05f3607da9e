"""A causal network's blocks with gradients written by hand, in pieces that stay in a CPU's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from llmops.nets.causal_attention import Core, Turned, long_core, short_core, turn, turn_back

PIECE = 256
"""Tokens that are taken through a block at once."""
CHUNK = 1 << 20
"""Logits that are held at once: 4 MB of float32."""


@dataclass(frozen=True)
class Rectangle:
    """Rows of one length: `turns` are the rotations of their positions, complex [length, head size / 2]; `future` is
    -inf where a query must not look, [length, length], None for rows that are not short."""

    rows: int
    length: int
    turns: Tensor
    future: Tensor | None


def scales(states: Tensor, epsilon: float) -> Tensor:
    """1 / root mean square of each token's state (Zhang and Sennrich 2019), [tokens, 1]."""
    return torch.linalg.vecdot(states, states).div_(states.shape[-1]).add_(epsilon).rsqrt_().unsqueeze_(-1)


def through_norm(grad: Tensor, plain: Tensor, scale: Tensor) -> Tensor:
    """The gradient before the norm, from the one after it; `plain` are the normalised states. Changes `grad`."""
    inner = torch.linalg.vecdot(grad, plain).div_(-plain.shape[-1]).unsqueeze_(-1)
    return grad.addcmul_(plain, inner).mul_(scale)


class FeedForward(Function):
    """states + silu(gate) * up, taken down (Shazeer 2020), of the normalised states.

    states [tokens, width]; into [2 * inner, width] holds gate and up with the norm's weight in them; down [width,
    inner]; keep [tokens, width] is dropout's mask, already scaled, or None. What is cheap to compute is computed again.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, into: Tensor, down: Tensor, keep: Tensor | None, epsilon: float) -> Tensor:
        scale, out = scales(states, epsilon), torch.empty_like(states)
        both = states.new_empty(len(states), len(into))
        for piece in pieces(len(states)):
            torch.mm(states[piece] * scale[piece], into.t(), out=both[piece])
            gate, up = both[piece].chunk(2, -1)
            inner = functional.silu(gate).mul_(up)
            add(states[piece], inner, down, keep, piece, out[piece])
        ctx.save_for_backward(states, scale, both, into, down, keep)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, scale, both, into, down, keep = ctx.saved_tensors
        grad_states, grad_into, grad_down = torch.empty_like(states), torch.zeros_like(into), torch.zeros_like(down)
        for piece in pieces(len(states)):
            grad = grads[0][piece] if keep is None else grads[0][piece] * keep[piece]
            gate, up = both[piece].chunk(2, -1)
            share = torch.sigmoid(gate)
            curve = gate * share
            grad_down.addmm_(grad.t(), curve * up)
            grad_inner = grad @ down
            grad_both = torch.empty_like(both[piece])
            grad_gate, grad_up = grad_both.chunk(2, -1)
            torch.mul(grad_inner, curve, out=grad_up)
            slope = (share + curve).addcmul_(share, curve, value=-1)
            torch.mul(grad_inner.mul_(up), slope, out=grad_gate)
            plain = states[piece] * scale[piece]
            grad_into.addmm_(grad_both.t(), plain)
            torch.add(through_norm(grad_both @ into, plain, scale[piece]), grads[0][piece], out=grad_states[piece])
        return grad_states, grad_into, grad_down, None, None


class SelfAttention(Function):
    """states + the output layer of causal self-attention (Vaswani et al. 2017) within rows, of the normalised states.

    states [tokens, width] holds the rectangles of `places` one after the other; into [(heads + 2 * kv_heads) * size,
    width] holds queries, keys and values with the norm's weight in them, their rows as `turn` takes them; over
    [width, heads * size]; keep as for FeedForward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        into: Tensor,
        over: Tensor,
        keep: Tensor | None,
        epsilon: float,
        places: Sequence[Rectangle],
        heads: tuple[int, int],
    ) -> Tensor:
        scale, out = scales(states, epsilon), torch.empty_like(states)
        ctx.parts = []
        for piece, place in blocks(places):
            turned = turn((states[piece] * scale[piece]) @ into.t(), place.turns, *heads)
            core = long_core(turned) if place.future is None else short_core(turned, place.future)
            add(states[piece], core.seen, over, keep, piece, out[piece])
            if any(ctx.needs_input_grad):
                ctx.parts.append((piece, place, turned, core))
        ctx.save_for_backward(states, scale, into, over, keep)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, scale, into, over, keep = ctx.saved_tensors
        grad_states, grad_into, grad_over = torch.empty_like(states), torch.zeros_like(into), torch.zeros_like(over)
        piece: slice
        place: Rectangle
        turned: Turned
        core: Core
        for piece, place, turned, core in ctx.parts:
            grad = grads[0][piece] if keep is None else grads[0][piece] * keep[piece]
            grad_over.addmm_(grad.t(), core.seen)
            grad_mixed = turn_back(core.backward(turned, grad @ over), place.turns)
            plain = states[piece] * scale[piece]
            grad_into.addmm_(grad_mixed.t(), plain)
            torch.add(through_norm(grad_mixed @ into, plain, scale[piece]), grads[0][piece], out=grad_states[piece])
        return grad_states, grad_into, grad_over, None, None, None, None


def add(states: Tensor, inner: Tensor, layer: Tensor, keep: Tensor | None, piece: slice, out: Tensor) -> None:
    """out = states + inner through the layer's weight, with dropout where there is a mask."""
    if keep is None:
        torch.addmm(states, inner, layer.t(), out=out)
    else:
        torch.addcmul(states, inner @ layer.t(), keep[piece], out=out)


def pieces(tokens: int) -> Iterator[slice]:
    """Tokens, PIECE by PIECE."""
    return (slice(start, min(start + PIECE, tokens)) for start in range(0, tokens, PIECE))


def blocks(places: Sequence[Rectangle]) -> Iterator[tuple[slice, Rectangle]]:
    """The rectangles' rows, as many at once as hold about PIECE tokens."""
    start = 0
    for place in places:
        end = start + place.rows * place.length
        step = max(1, PIECE // place.length) * place.length
        for begin in range(start, end, step):
            yield slice(begin, min(begin + step, end)), place
        start = end


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
