"""Compiles causal.c with the machine's C compiler, once, and loads it; without a compiler training goes on in torch."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from llmops.core.machine import folder, processor

SOURCE = Path(__file__).with_name("causal.c")
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
WIDE = "-mprefer-vector-width=512"
TIMEOUT_S = 60
OFF = "LLMOPS_KERNELS"
"""Set to 0, this environment variable keeps the kernels out."""

FUNCTIONS = {
    "norm_forward": "iifpppp",
    "norm_backward": "iiipppppp",
    "dropout": "iiifpp",
    "swiglu_forward": "iipp",
    "swiglu_backward": "iippp",
    "attention_forward": "iiiiippppp",
    "attention_backward": "iiiiippppppp",
}
"""The parameters of causal.c's functions: i long, f float, p float*."""
KINDS = {"i": ctypes.c_long, "f": ctypes.c_float, "p": ctypes.c_void_p}


@lru_cache(maxsize=1)
def kernels() -> ctypes.CDLL | None:
    """The compiled functions of causal.c, or None where they cannot be had: no compiler, or none that works."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get(OFF) == "0" or compiler is None or platform.system() != "Linux":
        return None
    try:
        path = folder() / f"causal-{digest(compiler)}.so"
        if not path.exists():
            build(compiler, path)
        return typed(ctypes.CDLL(str(path)))
    except (OSError, subprocess.SubprocessError, AttributeError):
        return None


def digest(compiler: str) -> str:
    """What decides the compiled file: source, compiler, processor, flags."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT_S, check=True).stdout
    known = [SOURCE.read_bytes(), version, processor(), " ".join(FLAGS).encode()]
    return hashlib.sha256(b"\0".join(known)).hexdigest()[:16]


def build(compiler: str, path: Path) -> None:
    """Compile to `path`, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / "made.so"
        for extra in ([WIDE], []):  # the flag is for x86 only
            command = [compiler, *FLAGS, *extra, str(SOURCE), "-o", str(made), "-lm"]
            if not subprocess.run(command, capture_output=True, timeout=TIMEOUT_S).returncode:
                os.replace(made, path)
                return
    raise OSError("the compiler fails")


def typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with its functions' parameters declared."""
    for name, parameters in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [KINDS[kind] for kind in parameters], None
    return library


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; they must be float32 without gaps, on the CPU."""
    assert tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.is_cpu
    found: int = tensor.data_ptr()
    return found


def call(name: str, *arguments: int | float | Tensor) -> None:
    """Call a function of causal.c; tensors stand for the addresses of their numbers."""
    library = kernels()
    assert library is not None
    getattr(library, name)(*(address(one) if isinstance(one, Tensor) else one for one in arguments))
