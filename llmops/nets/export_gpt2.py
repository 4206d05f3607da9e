"""The ONNX graph of GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmops.core.errors import DataError
from llmops.nets.onnxgraph import Graph
from llmops.nets.stepgraph import NAMES, Shape, Weights, attention, embed, linear, logits, pick, spread

GELU = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}
"""transformers' names of activations, and what ONNX calls their approximation."""


def build(graph: Graph, config: Any, weights: Weights, shape: Shape, folder: Path) -> None:
    """Add the whole network to `graph`. Raises DataError for variants not known here."""
    if config.activation_function not in GELU:
        known = ", ".join(GELU)
        raise DataError(
            f"compress cannot export the activation {config.activation_function}", str(folder), f"known: {known}"
        )
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise DataError("compress cannot export this scaling of attention", str(folder), "known: scale_attn_weights")
    weights = {name.removeprefix("transformer."): value for name, value in weights.items()}
    weights = {name: _widened(name, value, shape) for name, value in weights.items()}
    total = graph.add("Add", embed(graph, weights["wte.weight"]), _positions(graph, weights))
    for layer in range(shape.layers):
        prefix = f"h.{layer}"
        normed = _norm(graph, total, f"{prefix}.ln_1", weights, config)
        projected = _product(graph, normed, f"{prefix}.attn.c_attn", weights)
        attended = attention(graph, shape, layer, (projected,))
        total = graph.add("Add", total, _product(graph, attended, f"{prefix}.attn.c_proj", weights))
        normed = _norm(graph, total, f"{prefix}.ln_2", weights, config)
        inner = _product(graph, normed, f"{prefix}.mlp.c_fc", weights)
        active = graph.add("Gelu", inner, approximate=GELU[config.activation_function])
        total = graph.add("Add", total, _product(graph, active, f"{prefix}.mlp.c_proj", weights))
    normed = _norm(graph, pick(graph, total, shape), "ln_f", weights, config)
    logits(graph, normed, None if config.tie_word_embeddings else weights["lm_head.weight"])


def _widened(name: str, value: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """A weight with zeros where heads are filled up to their stored size."""
    if ".c_attn." in name:
        return spread(value, value.ndim - 1, shape)
    return spread(value, 0, shape) if name.endswith(".attn.c_proj.weight") else value


def _positions(graph: Graph, weights: Weights) -> str:
    """Embeddings of the tokens' positions: those of a row end at its `last`."""
    one, zero = graph.weight("one", np.array(1, np.int64)), graph.weight("zero", np.array(0, np.int64))
    axis = graph.weight("axis", np.array([1], np.int64))
    length = graph.add("Gather", graph.add("Shape", NAMES["tokens"]), one)
    back = graph.add("Range", graph.add("Sub", one, length), one, one)  # 1 - length ... 0
    last = graph.add("Unsqueeze", graph.add("Cast", NAMES["last"], to=7), axis)
    places = graph.add("Max", graph.add("Add", last, back), zero)
    return graph.add("Gather", graph.weight("positions", weights["wpe.weight"]), places)


def _norm(graph: Graph, hidden: str, name: str, weights: Weights, config: Any) -> str:
    scale, shift = (graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.add("LayerNormalization", hidden, scale, shift, axis=-1, epsilon=config.layer_norm_epsilon)


def _product(graph: Graph, hidden: str, name: str, weights: Weights) -> str:
    """A layer whose weight lies as [inputs, outputs] already (transformers' Conv1D)."""
    return linear(graph, hidden, name, weights[f"{name}.weight"], weights[f"{name}.bias"])
