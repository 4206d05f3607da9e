"""Fewer bits: weights and activations in int8 (dynamic quantisation), or the weights alone in 8 or 4 (ONNX Runtime)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = {8: 128, 4: 32}
"""Weights that share a scale, by bits."""
SMALLEST_BLOCK = 16
"""The shortest block that ONNX Runtime's operators take."""
ACCURACY_INT8 = 4
"""ONNX Runtime's name for computing the product itself in int8. Measured one row at a time, on a CPU with VNNI: 5 (4
bits) to 18 (8 bits) times as fast as multiplying by weights made float again."""
CONTRIB = "com.microsoft"


def quantise(source: Path, target: Path) -> None:
    """Write `source` (float32 ONNX) as int8 to `target`; matrix products and embeddings alike.

    Signed weights with a scale for each output channel: measured on MiniLM at batch 1 on a CPU with VNNI, 4.7 ms
    against 7.2 ms in float32 and 6.4 ms with unsigned weights, and less than half the error of one scale for each
    matrix. Seven of the eight bits are used (`reduce_range`): the error hardly grows, and on CPUs without VNNI eight
    bits would overflow 16-bit sums. So the one file is right on every CPU that it may come to serve on.

    The rest of the error is the activations', which share one scale over the whole batch: on 590 test rows of
    MiniLM the label of float32 is kept on 99.3 % one by one, on 97.8 % in batches of 16.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _muted():
        quantize_dynamic(source, target, None, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def quantise_static(source: Path, target: Path, batches: Sequence[Mapping[str, Any]]) -> None:
    """Write `source` (float32 ONNX) as int8 to `target`, products with scales that `batches` (arrays by input) fix: a
    scale for each product's activations, so that an answer does not depend on its batch. Embeddings are as in
    `quantise`."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Sample(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Any:
            return next(self.left, None)

    ready, products = target.with_suffix(".ready"), target.with_suffix(".products")
    with _muted():
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, products, Sample(), QuantFormat.QDQ, ["MatMul", "Gemm"], per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        quantize_dynamic(products, target, ["Gather"], per_channel=False, weight_type=QuantType.QUInt8)
    ready.unlink()
    products.unlink()


def quantise_weights(source: Path, target: Path, bits: int = 8) -> None:
    """Write `source` (float32 ONNX) to `target` with the weights of matrix products in `bits` (8 or 4) bits.

    Each block of weights has its own scale, and so has each row of the activations: an answer does not depend on its
    batch. Embedding tables and the product that makes the logits keep 8 bits in either form: they are most of a small
    model's weights, and rounding them costs most. A table that is also the head (tied) is stored once. Why symmetric,
    and why these blocks: docs/decisions/0001-stepping-runtime.md. On MiniLM slower than `quantise` and about as fast as
    float32, but nearer to it.
    """
    import onnx

    from llmops.nets.onnxgraph import save_model

    model = onnx.load(source)
    _quantise_tables(model.graph)
    outputs = {value.name for value in model.graph.output}
    heads = [node.name for node in model.graph.node if outputs & set(node.output)] if bits < 8 else []
    model = _quantise_products(model, bits, heads)
    if heads:
        model = _quantise_products(model, 8, [])
    save_model(model, target)


def _quantise_products(model: Any, bits: int, left_out: list[str]) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    constants = {weight.name: weight.dims for weight in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.name not in left_out]
    depths = [constants[node.input[1]][0] for node in products if node.input[1] in constants]
    block = _fitting(BLOCKS[bits], depths) or SMALLEST_BLOCK
    quantiser = MatMulNBitsQuantizer(
        model, bits, block, is_symmetric=True, accuracy_level=ACCURACY_INT8, nodes_to_exclude=left_out
    )
    with _muted():
        quantiser.process()
    return quantiser.model.model


def _fitting(block: int, sizes: Iterable[int]) -> int | None:
    """The longest block up to `block` that divides all `sizes`, so that none is filled up with zeros."""
    blocks = [block >> shift for shift in range(block.bit_length()) if block >> shift >= SMALLEST_BLOCK]
    return next((fits for fits in blocks if all(size % fits == 0 for size in sizes)), None)


def _quantise_tables(graph: Any) -> None:
    """Store embedding tables [tokens, width] in 8 bits, for the Gather nodes and the tied heads that read them. A table
    stays as it is where no block fits its width or something else reads it."""
    from onnx import TensorProto, numpy_helper

    weights = {weight.name: weight for weight in graph.initializer}
    for name in sorted({node.input[0] for node in graph.node if node.op_type == "Gather"} & weights.keys()):
        weight = weights[name]
        readers = [node for node in graph.node if name in node.input]
        if weight.data_type != TensorProto.FLOAT or len(weight.dims) != 2:
            continue
        block = _fitting(BLOCKS[8], [weight.dims[1]])
        if block and all(_looks_up(node, name) or _is_head(node, name) for node in readers):
            tied = any(_is_head(node, name) for node in readers)
            for node in readers:
                node.CopyFrom(_reader(node, name, weight.dims, block))
            _put_table(graph, weight, numpy_helper.to_array(weight), block, tied)


def _looks_up(node: Any, table: str) -> bool:
    """Whether the node takes rows of the table."""
    return node.op_type == "Gather" and node.input[0] == table and not any(axis.i for axis in node.attribute)


def _is_head(node: Any, table: str) -> bool:
    """Whether the node multiplies by the transposed table."""
    settings = {attribute.name: attribute.i for attribute in node.attribute}
    return node.op_type == "Gemm" and list(node.input[1:]) == [table] and settings == {"transB": 1}


def _reader(node: Any, table: str, shape: Sequence[int], block: int) -> Any:
    """What takes the place of `node` when the table is in 8 bits."""
    from onnx import helper

    common = {"outputs": list(node.output), "name": node.name, "domain": CONTRIB, "bits": 8, "block_size": block}
    if node.op_type == "Gather":
        inputs = [f"{table}.rows", node.input[1], f"{table}.scales"]
        return helper.make_node("GatherBlockQuantized", inputs, gather_axis=0, quantize_axis=1, **common)
    inputs = [node.input[0], f"{table}.blocks", f"{table}.scales"]
    return helper.make_node("MatMulNBits", inputs, N=shape[0], K=shape[1], accuracy_level=ACCURACY_INT8, **common)


def _put_table(graph: Any, weight: Any, table: NDArray[np.float32], block: int, tied: bool) -> None:
    """Put the table's 8-bit numbers (zero is 128) and the scales of its blocks into the graph, in its place."""
    from onnx import helper, numpy_helper

    blocks = table.reshape(len(table), -1, block)
    scales = np.abs(blocks).max(axis=2) / np.float32(127)
    steps = np.divide(blocks, scales[..., None], out=np.zeros_like(blocks), where=scales[..., None] > 0)
    numbers = (np.rint(steps) + 128).astype(np.uint8)
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(scales, f"{weight.name}.scales"))
    if not tied:
        graph.initializer.append(numpy_helper.from_array(numbers.reshape(table.shape), f"{weight.name}.rows"))
        return
    # the head wants [tokens, blocks, block], the look-up [tokens, width]: the same bytes in another shape
    graph.initializer.append(numpy_helper.from_array(numbers, f"{weight.name}.blocks"))
    shape = numpy_helper.from_array(np.array(table.shape, np.int64), f"{weight.name}.shape")
    graph.initializer.append(shape)
    graph.node.insert(0, helper.make_node("Reshape", [f"{weight.name}.blocks", shape.name], [f"{weight.name}.rows"]))


@contextmanager
def _muted() -> Iterator[None]:
    """The quantisers log advice that a person can do nothing about."""
    logger = logging.getLogger()
    before = logger.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
