"""What each trick of a training is worth: the same fine-tuning with one of them taken away or added, alternating.

    python benchmarks/ablation.py banking77 ../shared/data/banking77 [--turns 2] [--rows 2000] [--epochs 1] [--only ...]

    as it is              the engine's defaults in float32, batch of 32
    random batches        rows of any length together, padded to the longest
    whole embedding       every row of a pretrained embedding is trained, not only those that occur
    optimiser by parts    AdamW parameter by parameter instead of in one fused pass
    threads spin          OpenMP's default instead of a short wait
    torch's dropout       LLMOPS_KERNELS=0
    dropout in encoder    encoder_dropout 0.1: attention cannot use its fast kernel
    first token           pooling: first instead of the mean of all
    checkpoints           one every 2 s, written in the background
    checkpoints waited    the same, and training waits until each is written
    compiled              compile: true
    bfloat16              precision: bfloat16

Each run is a process of its own, seconds from rows in memory to the trained model. Median rows per second, the median
ratio to "as it is" of the same turn, peak memory, test accuracy; the last line is JSON. See finetune.py for settings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.batching import at_random, planned
from benchmarks.finetune import SEED, SETTINGS, engine, last_line, read, say
from llmops.core.threads import WAITING
from llmops.engine import fit, step
from llmops.engine.memory import resident_peak_mb
from llmops.nets import kernels

AS_IS = "as it is"
SPINS = {"GOMP_SPINCOUNT": "300000"}
"""libgomp's own number for threads that have a core each."""


def random_batches() -> None:
    from llmops.tasks.text_classification import classifier

    kind: Any = planned(at_random, by_tokens=False)
    classifier.TextProblem = kind  # type: ignore[misc]


def whole_embedding() -> None:
    from llmops.tasks.text_classification.problem import TextProblem

    def none(self: Any, network: Any) -> None:
        return None

    TextProblem.sliced = none  # type: ignore[method-assign, assignment]


def optimiser_by_parts() -> None:
    def made(groups: list[dict[str, Any]], device: torch.device) -> torch.optim.AdamW:
        return torch.optim.AdamW(groups, fused=False, foreach=False)

    step.make_optimiser = made


class Waiting(fit.Loop):
    """A training that does nothing until a checkpoint is written."""

    def checkpoint(self) -> None:
        super().checkpoint()
        self.keeper.wait()


def waited() -> None:
    fit.Loop = Waiting  # type: ignore[misc]


@dataclass(frozen=True)
class Change:
    """What differs: settings of `train:`, the environment, something in the code."""

    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    code: Callable[[], None] | None = None


OFTEN = {"checkpoint_every_s": 2.0}
CHANGES = {
    AS_IS: Change(),
    "random batches": Change(code=random_batches),
    "whole embedding": Change(code=whole_embedding),
    "optimiser by parts": Change(code=optimiser_by_parts),
    "threads spin": Change(environment=SPINS),
    "torch's dropout": Change(environment={kernels.OFF: "0"}),
    "dropout in encoder": Change({"encoder_dropout": 0.1}),
    "first token": Change({"pooling": "first"}),
    "checkpoints": Change(OFTEN),
    "checkpoints waited": Change(OFTEN, code=waited),
    "compiled": Change({"compile": True}),
    "bfloat16": Change({"precision": "bfloat16"}),
}


def one(asked: argparse.Namespace) -> dict[str, Any]:
    """A single run, in this process."""
    setting, change = SETTINGS[asked.data], CHANGES[asked.one]
    splits = read(setting, asked.folder, asked.rows)
    train = setting.train | {"epochs": asked.epochs} | change.settings
    if change.code is not None:
        change.code()
    with tempfile.TemporaryDirectory(prefix="llmops-ablation-") as folder:
        found = engine(setting, splits, train, Path(folder), SEED)
    rate = len(splits["train"]) * asked.epochs / found["seconds"]
    return {"rows_per_s": rate, "peak_memory_mb": resident_peak_mb(), "test": found["test"], "spent": found["spent"]}


def run(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """A single run, in a process of its own."""
    command = [sys.executable, __file__, asked.data, str(asked.folder), "--one", name]
    command += ["--rows", str(asked.rows), "--epochs", str(asked.epochs)]
    return last_line(name, command, WAITING | CHANGES[name].environment)


def summary(turns: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """For each change the medians of its figures, and of its ratio to the run without it in the same turn."""
    found = {}
    for name in turns[0]:
        runs = [turn[name] for turn in turns]
        ratios = [turn[name]["rows_per_s"] / turn[AS_IS]["rows_per_s"] for turn in turns]
        found[name] = {
            "rows_per_s": round(statistics.median(run["rows_per_s"] for run in runs), 1),
            "ratio": round(statistics.median(ratios), 3),
            "peak_memory_mb": round(statistics.median(run["peak_memory_mb"] for run in runs)),
            "test": [round(run["test"], 4) for run in runs],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=SETTINGS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--one", choices=CHANGES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        say(json.dumps(one(asked)))
        return
    turns: list[dict[str, dict[str, Any]]] = []
    for number in range(1, asked.turns + 1):
        turns.append({})
        for name in dict.fromkeys([AS_IS, *asked.only]):
            turns[-1][name] = found = run(name, asked)
            spent = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in found["spent"].items())
            say(
                f"turn {number}  {name:20} {found['rows_per_s']:7.1f} rows/s  {found['peak_memory_mb']:6,.0f} MB  "
                f"test {found['test']:.4f}  ({spent})"
            )
    shared = {"data": asked.data, "rows": asked.rows, "epochs": asked.epochs, "turns": asked.turns}
    say(json.dumps({**shared, "changes": summary(turns)}))


if __name__ == "__main__":
    main()
