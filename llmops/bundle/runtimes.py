"""How a bundle computes: ONNX Runtime on the CPU, one run of the network for each batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Arrays, Runtime

MODEL = "model.onnx"


def open_runtime(folder: Path, threads: int = 0) -> Runtime:
    """The runtime of the bundle in `folder`, computing with `threads` threads (0: one for each core).

    Raises DataError when the model file is missing or ONNX Runtime refuses it.
    """
    return OneShot(folder / MODEL, threads or cores())


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OneShot:
    """An ONNX file whose inputs are arrays with a batch axis."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3  # errors only: warnings about constant folding say nothing to a user
        # Every batch has its own shape, so a remembered pattern never fits again and only holds memory.
        options.enable_mem_pattern = False
        # Spinning threads win a little latency and burn whole cores while nobody asks anything.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise DataError(
                f"ONNX Runtime cannot load the model: {error}", str(path), "make the bundle again"
            ) from error

    def run(self, batch: Arrays) -> list[Any]:
        """The network's output arrays for one batch."""
        return list(self.session.run(None, dict(batch)))
