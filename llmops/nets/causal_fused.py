"""Llama's forward with fewer, larger steps on a CPU; weights and results are those of transformers' own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llmops.nets.causal_functions import Attention, Joint, Norm, SwiGlu, lay_together
from llmops.nets.dropout import drop
from llmops.nets.kernels import kernels

Shapes = Sequence[tuple[int, int]]
"""Rectangles (rows, length) that lie one after the other in a flat array of tokens."""
LANES = 16
"""Heads are as wide as a multiple of this."""


def llama_of(network: nn.Module) -> Any | None:
    """The LlamaForCausalLM in `network` (itself, or within adapters) when its forward is the one written here, and the
    machine has what computes it; else None."""
    from transformers import LlamaForCausalLM

    inner: Any = network.get_base_model() if hasattr(network, "get_base_model") else network
    if type(inner) is not LlamaForCausalLM or inner.device.type != "cpu" or inner.dtype != torch.float32:
        return None
    config, head = inner.config, inner.model.layers[0].self_attn.head_dim
    known = config.hidden_act == "silu" and not config.attention_dropout and head % LANES == 0
    return inner if known and kernels() is not None else None


def prepare(llama: Any) -> None:
    """Lay weights that are used together one after the other; their numbers stay what they are."""
    for layer in llama.model.layers:
        look, feed = layer.self_attn, layer.mlp
        for group in ([look.q_proj, look.k_proj, look.v_proj], [feed.gate_proj, feed.up_proj]):
            if all(plain(one) for one in group):
                lay_together(group)


def hidden_states(llama: Any, tokens: Tensor, shapes: Shapes, dropout: float) -> Tensor:
    """States after the last norm, [tokens, width].

    tokens int64 [all], the rectangles of `shapes` one after the other: a row attends to itself only, causally, so
    padding at a row's end changes nothing before it. `dropout` is on the embeddings and on each layer's two outputs.
    """
    model, rectangles = llama.model, tuple(shapes)
    cosine, sine = positions(model, max(length for _, length in rectangles))
    states = drop(model.embed_tokens(tokens), dropout)
    for layer in model.layers:
        look, feed = layer.self_attn, layer.mlp
        heads, kv_heads = (one.out_features // look.head_dim for one in (look.q_proj, look.k_proj))
        mixed = joined(norm(layer.input_layernorm, states), [look.q_proj, look.k_proj, look.v_proj])
        seen = Attention.apply(mixed, cosine, sine, rectangles, heads, kv_heads)
        states = added(states, look.o_proj, seen, dropout)
        both = joined(norm(layer.post_attention_layernorm, states), [feed.gate_proj, feed.up_proj])
        states = added(states, feed.down_proj, SwiGlu.apply(both), dropout)
    return norm(model.norm, states)


def positions(model: Any, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the positions 0 to length - 1, [length, head size / 2] each."""
    cosine, sine = model.rotary_emb(torch.zeros(()), torch.arange(length)[None])
    half = cosine.shape[-1] // 2
    return cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous()


def norm(layer: Any, states: Tensor) -> Tensor:
    found: Tensor = Norm.apply(states, layer.weight, layer.variance_epsilon)
    return found


def plain(layer: nn.Module) -> bool:
    """Whether a layer is its weight and nothing else; one with adapters isn't."""
    return type(layer) is nn.Linear and layer.bias is None


def added(states: Tensor, layer: Any, inner: Tensor, dropout: float) -> Tensor:
    """states + layer(inner), in one pass where it can be."""
    if dropout or not plain(layer):
        return states + drop(layer(inner), dropout)
    return torch.addmm(states, inner, layer.weight.t())


def joined(states: Tensor, layers: Sequence[Any]) -> Tensor:
    """Several linear layers on the same states as one product; layers with adapters are asked one by one."""
    if all(plain(layer) for layer in layers):
        found: Tensor = Joint.apply(states, *(layer.weight for layer in layers))
        return found
    return torch.cat([layer(states) for layer in layers], -1)
