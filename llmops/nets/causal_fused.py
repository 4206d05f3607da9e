"""Llama's forward with fewer, larger operations; weights and results are those of transformers' own class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.nets.causal_functions import Normalise, Rotate, ShortAttention, SwiGlu

SHORT = 96
"""Rows up to this length have their attention weights held whole; measured on a CPU with AVX-512."""

Shapes = Sequence[tuple[int, int]]
"""Rectangles (rows, length) that lie one after the other in a flat array of tokens."""


def llama_of(network: nn.Module) -> Any | None:
    """The LlamaForCausalLM in `network` (itself, or within adapters), when its forward is the one written here."""
    from transformers import LlamaForCausalLM

    inner: Any = network.get_base_model() if hasattr(network, "get_base_model") else network
    plain = type(inner) is LlamaForCausalLM and inner.config.hidden_act == "silu"
    return inner if plain and not inner.config.attention_dropout else None


@dataclass(frozen=True)
class Rectangle:
    """Rows of one length: `turns` are the rotations of their positions, complex [length, head size / 2]; `future` is
    -inf where a query must not look, [length, length], None for rows that are not short."""

    cells: int
    turns: Tensor
    future: Tensor | None


def hidden_states(llama: Any, tokens: Tensor, shapes: Shapes, dropout: float) -> Tensor:
    """States after the last norm, [tokens, width].

    tokens int64 [all], the rectangles of `shapes` one after the other: a row attends to itself only, causally, so
    padding at a row's end changes nothing before it. `dropout` is on the embeddings and on each layer's two outputs.
    """
    model = llama.model
    places = [rectangle(model, rows, length, tokens) for rows, length in shapes]
    states = drop(model.embed_tokens(tokens), dropout)
    for layer in model.layers:
        norm = layer.input_layernorm
        seen = attention(layer.self_attn, normalised(norm, states), norm.weight, places)
        states = added(states, layer.self_attn.o_proj, seen, dropout)
        norm, feed = layer.post_attention_layernorm, layer.mlp
        both = joined(normalised(norm, states), norm.weight, [feed.gate_proj, feed.up_proj])
        states = added(states, feed.down_proj, SwiGlu.apply(both), dropout)
    return normalised(model.norm, states) * model.norm.weight


def rectangle(model: Any, rows: int, length: int, like: Tensor) -> Rectangle:
    """What all layers need to know of a rectangle."""
    cosine, sine = model.rotary_emb(torch.zeros((), device=like.device), torch.arange(length, device=like.device)[None])
    half = cosine.shape[-1] // 2
    turns = torch.complex(cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous())
    future = torch.full((length, length), -torch.inf, device=like.device).triu_(1) if length <= SHORT else None
    return Rectangle(rows * length, turns, future)


def normalised(norm: Any, states: Tensor) -> Tensor:
    """The norm without its weight, which `joined` brings in."""
    found: Tensor = Normalise.apply(states, norm.variance_epsilon)
    return found


def drop(states: Tensor, rate: float) -> Tensor:
    return functional.dropout(states, rate) if rate else states


def plain(layer: nn.Module) -> bool:
    """Whether a layer is its weight and nothing else; one with adapters isn't."""
    return type(layer) is nn.Linear and layer.bias is None


def added(states: Tensor, layer: Any, inner: Tensor, dropout: float) -> Tensor:
    """states + layer(inner), in one pass where it can be."""
    if dropout or not plain(layer):
        return states + drop(layer(inner), dropout)
    return torch.addmm(states, inner, layer.weight.t())


def joined(states: Tensor, gain: Tensor, layers: Sequence[Any]) -> Tensor:
    """Several linear layers on `states` times the norm's weight as one product. The weight goes into the matrix, which
    is far smaller than the states; layers with adapters are asked one by one."""
    if all(plain(layer) for layer in layers):
        return functional.linear(states, torch.cat([layer.weight for layer in layers]) * gain)
    return torch.cat([layer(states * gain) for layer in layers], -1)


def attention(layer: Any, states: Tensor, gain: Tensor, places: Sequence[Rectangle]) -> Tensor:
    """Self-attention within each row, before the output layer: [tokens, width] -> [tokens, heads * size]."""
    size = layer.head_dim
    heads, kv_heads = layer.q_proj.out_features // size, layer.k_proj.out_features // size
    mixed = side_by_side(layer, states, gain, heads + kv_heads, size)
    parts = mixed.split([place.cells for place in places])
    seen = []
    for part, place in zip(parts, places, strict=True):
        queries, keys, values = Rotate.apply(part, place.turns, heads, kv_heads)
        seen.append(attend(queries, keys, values, place.future))
    return seen[0] if len(seen) == 1 else torch.cat(seen)


def side_by_side(layer: Any, states: Tensor, gain: Tensor, turned: int, size: int) -> Tensor:
    """Queries, keys and values [tokens, all heads * size] as `Rotate` takes them.

    transformers keeps the two numbers that are turned together half a head apart; scores don't change when those of
    queries and keys move alike. Moving the rows of the weight is far cheaper than moving the states.
    """
    layers = [layer.q_proj, layer.k_proj, layer.v_proj]
    if not all(plain(one) for one in layers):
        mixed = joined(states, gain, layers)
        front, back = mixed.split([turned * size, mixed.shape[-1] - turned * size], -1)
        return torch.cat([front.unflatten(-1, (turned, 2, size // 2)).transpose(-1, -2).flatten(-3), back], -1)
    front = torch.cat([layer.q_proj.weight, layer.k_proj.weight])
    front = front.view(turned, 2, size // 2, -1).transpose(1, 2).reshape(front.shape)
    return functional.linear(states, torch.cat([front, layer.v_proj.weight]) * gain)


def attend(queries: Tensor, keys: Tensor, values: Tensor, future: Tensor | None) -> Tensor:
    """Causal attention of rows of one length -> [rows * length, heads * size]."""
    if future is not None:
        short: Tensor = ShortAttention.apply(queries, keys, values, future)
        return short
    seen = functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=1.0, enable_gqa=queries.shape[1] != keys.shape[1]
    )
    return seen.transpose(1, 2).flatten(2).flatten(0, 1)
