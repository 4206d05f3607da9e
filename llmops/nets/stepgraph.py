"""What every exported causal model has in common: its inputs and outputs, attention over a cache, and the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmops.nets.onnxgraph import CONTRIB, Graph

Weights = dict[str, NDArray[np.float32]]

NAMES = {
    "tokens": "tokens",
    "last": "last",
    "total": "total",
    "wanted": "wanted",
    "keys": "keys.{layer}",
    "values": "values.{layer}",
    "new_keys": "keys.{layer}.new",
    "new_values": "values.{layer}.new",
    "logits": "logits",
}
"""Names of the graph's inputs and outputs.

tokens int64 [batch, length]; last int32 [batch]: position of each row's last token; total int32 []: the largest
`last` + 1; wanted int64 [wanted]: which of the batch * length positions logits are for; keys.L, values.L float32
[batch, kv_heads, room, Shape.stored]: a layer's cache, which is read, and written in place when the output keys.L.new
is bound to the same memory; logits float32 [wanted, vocabulary].
"""
EMBEDDING = "embedding"
"""Initialiser with the embedding table [vocabulary, width]; a tied head reads it too."""

GRAIN = 16
"""ONNX Runtime's attention with rotary positions takes head sizes that are multiples of it."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal network; `context` is how many tokens its positions reach."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int

    @property
    def stored(self) -> int:
        """Head size in the graph and in the cache: attention's operator wants a multiple of 16, and zeros fill up."""
        return -(-self.head_size // GRAIN) * GRAIN


def declare(graph: Graph, shape: Shape) -> None:
    """Inputs and outputs, as `NAMES` tells."""
    graph.input(NAMES["tokens"], "int64", ["batch", "length"])
    graph.input(NAMES["last"], "int32", ["batch"])
    graph.input(NAMES["total"], "int32", [])
    graph.input(NAMES["wanted"], "int64", ["wanted"])
    graph.output(NAMES["logits"], "float32", ["wanted", shape.vocabulary])
    cache: list[int | str] = ["batch", shape.kv_heads, "room", shape.stored]
    for layer in range(shape.layers):
        for side in ("keys", "values"):
            graph.input(NAMES[side].format(layer=layer), "float32", cache)
            graph.output(NAMES[f"new_{side}"].format(layer=layer), "float32", cache)


def embed(graph: Graph, table: NDArray[np.float32]) -> str:
    """Hidden states [batch, length, width] of the tokens."""
    return graph.add("Gather", graph.weight(EMBEDDING, table), NAMES["tokens"])


def linear(graph: Graph, hidden: str, name: str, matrix: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
    """`hidden` times `matrix` [inputs, outputs], plus `bias` where there is one. A plain MatMul with a constant: what
    the weight-only quantisers look for."""
    product = graph.add("MatMul", hidden, graph.weight(f"{name}.weight", matrix))
    return product if bias is None else graph.add("Add", product, graph.weight(f"{name}.bias", bias))


def spread(values: NDArray[np.float32], axis: int, shape: Shape) -> NDArray[np.float32]:
    """`values` whose `axis` counts heads times head_size, with zeros put in so that it counts heads times stored.

    Half of each head goes to the start of its place and half to the middle: rotary positions turn number i together
    with number i + size / 2.
    """
    half = shape.head_size // 2
    places = [*range(half), *range(shape.stored // 2, shape.stored // 2 + shape.head_size - half)]
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    wide = np.zeros((*before, values.shape[axis] // shape.head_size, shape.stored, *after), np.float32)
    np.moveaxis(wide, axis + 1, 0)[places] = np.moveaxis(
        values.reshape(*before, -1, shape.head_size, *after), axis + 1, 0
    )
    return wide.reshape(*before, -1, *after)


def attention(
    graph: Graph, shape: Shape, layer: int, projected: tuple[str, ...], rotary: tuple[str, ...] = (), window: int = 0
) -> str:
    """Causal attention over the layer's cache, which the new keys and values join: [batch, length, heads * stored].

    `projected` are queries, keys and values, or one value with all three side by side; `rotary` the cosines and sines
    [context, stored / 2] of rotary positions (Su et al. 2021); `window`: how many tokens are seen, itself among them
    (0: all).
    """
    query, keys, values = (*projected, "", "")[:3]
    return graph.add(
        "GroupQueryAttention",
        *(query, keys, values, NAMES["keys"].format(layer=layer), NAMES["values"].format(layer=layer)),
        *(NAMES["last"], NAMES["total"], *rotary),
        outputs=[f"attention.{layer}", *(NAMES[f"new_{side}"].format(layer=layer) for side in ("keys", "values"))],
        domain=CONTRIB,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.head_size**-0.5,
        do_rotary=int(bool(rotary)),
        local_window_size=window or -1,
    )


def pick(graph: Graph, hidden: str, shape: Shape) -> str:
    """The wanted positions of `hidden`, [wanted, width]: the product with the vocabulary is most of a small model's
    work, and a prompt needs it once."""
    rows = graph.add("Reshape", hidden, graph.weight("rows", np.array([-1, shape.width], np.int64)))
    return graph.add("Gather", rows, NAMES["wanted"])


def logits(graph: Graph, hidden: str, head: NDArray[np.float32] | None) -> None:
    """The output: `hidden` [wanted, width] times `head` [vocabulary, width], or times the embedding table (None). A
    tied head shares the table's memory, so its product is a Gemm that transposes."""
    if head is None:
        graph.add("Gemm", hidden, graph.weight(EMBEDDING, np.empty(0)), outputs=[NAMES["logits"]], transB=1)
    else:
        graph.add("MatMul", hidden, graph.weight("head.weight", head.T), outputs=[NAMES["logits"]])
