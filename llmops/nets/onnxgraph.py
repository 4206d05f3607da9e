"""Puts an ONNX graph together node by node: nodes name their outputs themselves, weights become initialisers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
CONTRIB = "com.microsoft"
"""ONNX Runtime's own operators."""
LARGE = 64_000_000
"""Bytes of weights from which they lie in a file of their own (a protobuf file ends at 2 GiB)."""

INTEGERS = {"int32": TensorProto.INT32, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}


class Graph:
    """An ONNX graph in the making."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: str, shape: Sequence[int | str]) -> str:
        """An input of the whole graph; letters in `shape` stand for sizes that may vary."""
        self._inputs.append(helper.make_tensor_value_info(name, INTEGERS[kind], list(shape)))
        return name

    def output(self, name: str, kind: str, shape: Sequence[int | str]) -> None:
        """The value `name` is an output of the whole graph."""
        self._outputs.append(helper.make_tensor_value_info(name, INTEGERS[kind], list(shape)))

    def weight(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """A constant; the same name again is the same constant."""
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def add(self, operator: str, *inputs: str, outputs: Sequence[str] = (), domain: str = "", **attributes: Any) -> str:
        """One node; the name of its first output (made up when `outputs` is empty)."""
        names = list(outputs) or [f"{operator}.{len(self._nodes)}"]
        self._nodes.append(helper.make_node(operator, list(inputs), names, names[0], domain=domain, **attributes))
        return names[0]

    def save(self, path: Path) -> list[Path]:
        """Check the graph and write it; large weights go into a second file beside it. Returns the files."""
        graph = helper.make_graph(self._nodes, "network", self._inputs, self._outputs, list(self._weights.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def save_model(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write `model` to `path`, its weights to `path`.data when they are large. Returns the files written."""
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)  # onnx appends to a file that stands there
    if sum(len(weight.raw_data) for weight in model.graph.initializer) < LARGE:
        onnx.save_model(model, str(path))
        return [path]
    onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    data.chmod(path.stat().st_mode)  # onnx makes it for the owner's eyes only
    return [path, data]
