"""The ONNX graph of Llama-shaped networks: llama, mistral, qwen2, qwen3 (Touvron et al. 2023 and their kin)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmops.core.errors import DataError
from llmops.nets.onnxgraph import CONTRIB, Graph
from llmops.nets.stepgraph import Shape, Weights, attention, embed, linear, logits, pick, spread

STATIC = ("default", "linear", "llama3", "yarn")
"""Rotary positions whose frequencies do not depend on the length of the text."""


def build(graph: Graph, config: Any, weights: Weights, shape: Shape, folder: Path) -> None:
    """Add the whole network to `graph`. Raises DataError for position encodings and activations not known here."""
    if config.hidden_act != "silu":
        raise DataError(f"compress cannot export the activation {config.hidden_act}", str(folder), "known: silu")
    rotary = _rotary(graph, config, shape, folder)
    weights = {name: _widened(name, value, shape) for name, value in weights.items()}
    total = embed(graph, weights["model.embed_tokens.weight"])
    branch = ""
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        normed, total = _norm(graph, total, branch, f"{prefix}.input_layernorm", weights, config)
        projected = _projected(graph, normed, prefix, weights, shape, config)
        attended = attention(graph, shape, layer, projected, rotary, _window(config, layer))
        branch = _product(graph, attended, [f"{prefix}.self_attn.o_proj"], weights)
        normed, total = _norm(graph, total, branch, f"{prefix}.post_attention_layernorm", weights, config)
        branch = _feed_forward(graph, normed, prefix, weights)
    wanted = pick(graph, graph.add("Add", total, branch), shape)
    normed, _ = _norm(graph, wanted, "", "model.norm", weights, config)
    logits(graph, normed, None if config.tie_word_embeddings else weights["lm_head.weight"])


def _rotary(graph: Graph, config: Any, shape: Shape, folder: Path) -> tuple[str, str]:
    """Cosines and sines [context, stored / 2], from transformers' own frequencies; nothing turns where zeros stand."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    kind = (config.rope_parameters or {}).get("rope_type", "default")
    if kind not in STATIC:
        raise DataError(f"compress cannot export rotary positions of type {kind}", str(folder), f"known: {STATIC}")
    made = LlamaRotaryEmbedding(config)
    frequencies = torch.nn.functional.pad(made.inv_freq.float(), (0, (shape.stored - shape.head_size) // 2))
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), frequencies)
    scale = made.attention_scaling
    return (
        graph.weight("cosines", (angles.cos() * scale).numpy()),
        graph.weight("sines", (angles.sin() * scale).numpy()),
    )


def _widened(name: str, value: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """A weight with zeros where heads are filled up to their stored size."""
    kind = name.split(".")[-2]
    if kind in ("q_proj", "k_proj", "v_proj"):
        return spread(value, 0, shape)
    if kind in ("q_norm", "k_norm"):  # its mean is over the stored size: see _head_norm
        return spread(value, 0, shape) * np.float32((shape.head_size / shape.stored) ** 0.5)
    return spread(value, 1, shape) if kind == "o_proj" and value.ndim == 2 else value


def _norm(graph: Graph, total: str, branch: str, name: str, weights: Weights, config: Any) -> tuple[str, str]:
    """(root mean square norm of the sum of `total` and `branch`, the sum); Zhang & Sennrich 2019."""
    scale = graph.weight(f"{name}.weight", weights[f"{name}.weight"])
    if not branch:
        settings = {"axis": -1, "epsilon": config.rms_norm_eps, "stash_type": 1}
        return graph.add("SimplifiedLayerNormalization", total, scale, **settings), total
    outputs = [f"{name}.normed", "", "", f"{name}.sum"]
    graph.add(
        "SkipSimplifiedLayerNormalization", total, branch, scale, outputs=outputs, domain=CONTRIB,
        epsilon=config.rms_norm_eps,
    )  # fmt: skip
    return outputs[0], outputs[3]


def _product(graph: Graph, hidden: str, names: list[str], weights: Weights) -> str:
    """The linear layers `names` side by side, as one product: fewer and larger matrices are faster."""
    matrix = np.concatenate([weights[f"{name}.weight"] for name in names]).T
    biases = [weights.get(f"{name}.bias") for name in names]
    bias: NDArray[np.float32] | None = None
    if any(part is not None for part in biases):
        parts = zip(names, biases, strict=True)
        width = {name: len(weights[f"{name}.weight"]) for name in names}
        bias = np.concatenate([np.zeros(width[name], np.float32) if part is None else part for name, part in parts])
    return linear(graph, hidden, "+".join(names), matrix, bias)


def _projected(graph: Graph, hidden: str, prefix: str, weights: Weights, shape: Shape, config: Any) -> tuple[str, ...]:
    """Queries, keys and values: side by side, or three values where queries and keys are normed (qwen3)."""
    packed = _product(graph, hidden, [f"{prefix}.self_attn.{letter}_proj" for letter in "qkv"], weights)
    if f"{prefix}.self_attn.q_norm.weight" not in weights:
        return (packed,)
    heads = [shape.heads, shape.kv_heads, shape.kv_heads]
    sizes = graph.weight("qkv.sizes", np.array([count * shape.stored for count in heads], np.int64))
    query, keys, values = (f"{prefix}.{letter}" for letter in "qkv")
    graph.add("Split", packed, sizes, outputs=[query, keys, values], axis=-1)
    normed = (
        _head_norm(graph, value, f"{prefix}.self_attn.{letter}_norm", weights, count, shape, config)
        for letter, value, count in (("q", query, shape.heads), ("k", keys, shape.kv_heads))
    )
    return (*normed, values)


def _head_norm(graph: Graph, value: str, name: str, weights: Weights, heads: int, shape: Shape, config: Any) -> str:
    """Each head's part of `value` normed on its own. The mean counts the zeros that fill a head up: the weight and
    epsilon make that good."""
    scale = graph.weight(f"{name}.weight", weights[f"{name}.weight"])
    epsilon = config.rms_norm_eps * shape.head_size / shape.stored
    apart = graph.add("Reshape", value, graph.weight(f"apart.{heads}", np.array([0, 0, heads, -1], np.int64)))
    normed = graph.add("SimplifiedLayerNormalization", apart, scale, axis=-1, epsilon=epsilon, stash_type=1)
    return graph.add("Reshape", normed, graph.weight("together", np.array([0, 0, -1], np.int64)))


def _feed_forward(graph: Graph, hidden: str, prefix: str, weights: Weights) -> str:
    """SwiGLU (Shazeer 2020)."""
    both = _product(graph, hidden, [f"{prefix}.mlp.gate_proj", f"{prefix}.mlp.up_proj"], weights)
    gate, up = f"{prefix}.gate", f"{prefix}.up"
    graph.add("Split", both, outputs=[gate, up], axis=-1, num_outputs=2)
    active = graph.add("QuickGelu", gate, domain=CONTRIB, alpha=1.0)  # with alpha 1 it is SiLU
    return _product(graph, graph.add("Mul", active, up), [f"{prefix}.mlp.down_proj"], weights)


def _window(config: Any, layer: int) -> int:
    """How many tokens the layer sees; 0: all."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if not window or (kinds and kinds[layer] != "sliding_attention"):
        return 0
    return int(window)
