"""How long the command line takes to answer: `llmops --help`, and a `llmops run` that finds nothing to do.

    python benchmarks/startup.py configs/support.yaml      (after `llmops run configs/support.yaml`)

Whole processes, alternating, the median of ten each; one JSON line last. Beside them the bare interpreter.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

ROUNDS = 10


def took_s(command: list[str]) -> float:
    """Seconds of one whole process, which must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    llmops = [sys.executable, "-m", "llmops.cli"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "help": [*llmops, "--help"],
        "nothing_to_do": [*llmops, "run", sys.argv[1]],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(took_s(command))
    sys.stdout.write(json.dumps({f"{name}_s": round(statistics.median(t), 3) for name, t in times.items()}) + "\n")


if __name__ == "__main__":
    main()
