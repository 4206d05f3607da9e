"""Opens an ONNX file for computing on the CPU, with the options that a server wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.core.errors import DataError
from llmops.core.threads import cores

__all__ = ["MODEL", "cores", "open_session"]

MODEL = "model.onnx"


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime.InferenceSession that computes with `threads` threads.

    Raises DataError when the file is missing or ONNX Runtime refuses it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors only: warnings about constant folding say nothing to a user
    # Every batch has its own shape, so a remembered pattern never fits again and only holds memory.
    options.enable_mem_pattern = False
    # Threads that wait for the next operator spin, which a third of one request's time hangs on (MiniLM, 2 threads: 2.9
    # ms, asleep 4.4); once the run is over they stop, or they would burn whole cores while nobody asks anything.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise DataError(f"ONNX Runtime cannot load the model: {error}", str(path), "make the bundle again") from error
