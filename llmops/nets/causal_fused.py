"""Llama's forward with fewer, larger operations; weights and results are those of transformers' own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.nets.causal_functions import FeedForward, Rectangle, SelfAttention

SHORT = 96
"""Rows up to this length have their attention weights held whole; measured on a CPU with AVX-512."""

Shapes = Sequence[tuple[int, int]]
"""Rectangles (rows, length) that lie one after the other in a flat array of tokens."""


def llama_of(network: nn.Module) -> Any | None:
    """The network as a LlamaForCausalLM whose forward is the one written here; None for others, those with adapters
    among them."""
    from transformers import LlamaForCausalLM

    if type(network) is not LlamaForCausalLM:
        return None
    config = network.config
    known = config.hidden_act == "silu" and not config.attention_dropout
    return network if known and not config.attention_bias and not config.mlp_bias else None


def hidden_states(llama: Any, tokens: Tensor, shapes: Shapes, dropout: float) -> Tensor:
    """States after the last norm, [tokens, width].

    tokens int64 [all], the rectangles of `shapes` one after the other: a row attends to itself only, causally, so
    padding at a row's end changes nothing before it. `dropout` is on the embeddings and on each layer's two outputs.
    """
    model = llama.model
    places = [rectangle(model, rows, length, tokens) for rows, length in shapes]
    states = model.embed_tokens(tokens)
    if dropout:
        states = functional.dropout(states, dropout)
    for layer in model.layers:
        head = layer.self_attn.head_dim
        heads = layer.self_attn.q_proj.out_features // head, layer.self_attn.k_proj.out_features // head
        norm, keep = layer.input_layernorm, mask(states, dropout)
        into, over = side_by_side(layer.self_attn, sum(heads)) * norm.weight, layer.self_attn.o_proj.weight
        states = SelfAttention.apply(states, into, over, keep, norm.variance_epsilon, places, heads)
        norm, keep = layer.post_attention_layernorm, mask(states, dropout)
        into = torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]) * norm.weight
        states = FeedForward.apply(states, into, layer.mlp.down_proj.weight, keep, norm.variance_epsilon)
    return model.norm(states)


def rectangle(model: Any, rows: int, length: int, like: Tensor) -> Rectangle:
    """What all layers need to know of a rectangle."""
    cosine, sine = model.rotary_emb(torch.zeros((), device=like.device), torch.arange(length, device=like.device)[None])
    half = cosine.shape[-1] // 2
    turns = torch.complex(cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous())
    future = torch.full((length, length), -torch.inf, device=like.device).triu_(1) if length <= SHORT else None
    return Rectangle(rows, length, turns, future)


def mask(states: Tensor, dropout: float) -> Tensor | None:
    """Dropout's mask for a layer's output, scaled."""
    return functional.dropout(torch.ones_like(states), dropout) if dropout else None


def side_by_side(layer: Any, turned: int) -> Tensor:
    """The weights of queries, keys and values as one, [all heads * size, width], their rows as `turn` takes them.

    transformers keeps the two numbers that are turned together half a head apart; scores don't change when those of
    queries and keys move alike, and moving the rows of the weight is far cheaper than moving the states.
    """
    front = torch.cat([layer.q_proj.weight, layer.k_proj.weight])
    front = front.view(turned, 2, -1, front.shape[-1]).transpose(1, 2).reshape(front.shape)
    return torch.cat([front, layer.v_proj.weight])
