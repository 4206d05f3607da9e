"""doctor: what this machine can do for llmops."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmops import __version__
from llmops.core.report import Table

SERVE = ("onnxruntime", "tokenizers", "starlette", "uvicorn")
TRAIN = ("torch", "transformers", "datasets", "scikit-learn", "optuna", "peft")


def examine() -> tuple[Table, dict[str, Any]]:
    """(table for people, the same as plain values)."""
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(Path.cwd())
    found: dict[str, Any] = {
        "llmops": __version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory.total / 1e9, 1),
        "memory_free_gb": round(memory.available / 1e9, 1),
        "disk_free_gb": round(disk.free / 1e9, 1),
        "fast int8 (VNNI)": "vnni" in _cpu_flags(),
        "gpu": _gpu(),
        "can serve": _missing(SERVE) or "yes",
        "can train": _missing(TRAIN) or "yes",
    }
    return Table("This machine", ["what", "found"], [[key, value] for key, value in found.items()]), found


def _missing(names: tuple[str, ...]) -> str:
    missing = []
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return f"no: {', '.join(missing)} missing; pip install 'llmops-loop[train]'" if missing else ""


def _cpu_flags() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text() if cpuinfo.exists() else ""


def _gpu() -> str:
    if find_spec("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "Apple GPU (mps)" if torch.backends.mps.is_available() else "none"
