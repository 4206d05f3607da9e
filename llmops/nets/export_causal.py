"""Writes a causal model (a Hugging Face folder) as an ONNX graph that steps over a cache owned by the caller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_json
from llmops.core.errors import DataError
from llmops.nets import export_gpt2, export_llama
from llmops.nets.onnxgraph import Graph
from llmops.nets.stepgraph import NAMES, Shape, Weights, declare

MODEL = "model.onnx"
SETTINGS = "settings.json"

Builder = Callable[[Graph, Any, Weights, Shape, Path], None]
BUILDERS: dict[str, Builder] = {
    "gpt2": export_gpt2.build,
    "llama": export_llama.build,
    "mistral": export_llama.build,
    "qwen2": export_llama.build,
    "qwen3": export_llama.build,
}
"""What adds a network to the graph, by transformers' `model_type`."""


def export_causal(folder: Path, out: Path, context: int | None = None) -> dict[str, Any]:
    """Write the model in `folder` (config.json, model*.safetensors) to `out` in float32: model.onnx, model.onnx.data
    when it is large, and settings.json.

    `context`: the most tokens that a slot of the cache will hold; default, what the model was made for. Returns what
    settings.json says: context, vocabulary, layers, kv_heads, head_size (of the cache),
    cache (names of inputs and outputs). Raises
    DataError for an architecture that has no builder here, and for a folder without weights.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    build = BUILDERS.get(config.model_type)
    if build is None:
        raise DataError(
            f"compress: cannot export a model of type {config.model_type}; known: {', '.join(BUILDERS)}",
            str(folder),
            "choose a model of a known type",
        )
    weights = _weights(folder)
    shape = _shape(config, weights, context)
    graph = Graph()
    declare(graph, shape)
    build(graph, config, weights, shape, folder)
    out.mkdir(parents=True, exist_ok=True)
    graph.save(out / MODEL)
    settings = {
        **{name: getattr(shape, name) for name in ("context", "vocabulary", "layers", "kv_heads")},
        "head_size": shape.stored,
        "cache": NAMES,
    }
    write_json(out / SETTINGS, settings)
    return settings


def _weights(folder: Path) -> Weights:
    """All tensors of the folder as float32, by name."""
    import torch
    from safetensors.torch import load_file

    paths = sorted(folder.glob("model*.safetensors"))
    if not paths:
        raise DataError("the model has no weights: model.safetensors is missing", str(folder), "train it again")
    tensors = {name: tensor for path in paths for name, tensor in load_file(path).items()}
    return {name: np.asarray(tensor.to(torch.float32).numpy()) for name, tensor in tensors.items()}


def _shape(config: Any, weights: Weights, context: int | None) -> Shape:
    table = next(value for name, value in weights.items() if name.endswith(("embed_tokens.weight", "wte.weight")))
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=len(table),
        context=min(context or config.max_position_embeddings, config.max_position_embeddings),
    )
