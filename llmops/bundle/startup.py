"""What opening a bundle costs in a process of its own: `python -m llmops.bundle.startup FOLDER [THREADS]`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

from llmops.bundle.predictor import Predictor
from llmops.core.machine import environment

LIMIT_S = 300


def startup(folder: Path, threads: int = 0) -> dict[str, float]:
    """{"start_ms", "memory_mb"}: milliseconds to open the bundle in `folder` and, where it answers at once, to give a
    first answer; and what the process holds in memory then. Nothing when that cannot be measured here."""
    command = [sys.executable, "-P", "-m", "llmops.bundle.startup", str(folder), str(threads)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment()
        )  # fmt: skip
        found: dict[str, float] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return found


def _measure(folder: Path, threads: int) -> dict[str, float]:
    began = time.perf_counter()
    predictor = Predictor.open(folder, threads)
    if predictor.manifest.runtime == "oneshot":
        predictor.answer([predictor.codec.sample])
    took_ms = (time.perf_counter() - began) * 1000
    return {"start_ms": round(took_ms, 1), "memory_mb": round(psutil.Process().memory_info().rss / 1e6, 1)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]))))
