"""Does it cost accuracy that rows of like length train together? The same fine-tuning with three ways to make batches.

    python benchmarks/batching.py banking77 ../shared/data/banking77 [--seeds 1 2 3] [--epochs 4]

    tokens   the engine's: like lengths, about equally many tokens in each batch, every row counts the same
    rows     like lengths, equally many rows
    random   any rows together, padded to the longest

Test accuracy of the best validation epoch for each seed, mean and range; the last line is JSON. See finetune.py for the
settings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import llmops.tasks.text_classification.problem as problem
from benchmarks.finetune import SETTINGS, engine, read, say
from llmops.engine.batching import plan_epoch

Plan = Callable[[np.ndarray, int, int, int], list[np.ndarray]]


def by_rows(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    chance = np.random.default_rng([seed, epoch])
    order = chance.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[index] for index in chance.permutation(len(batches))]


def at_random(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


PLANS: dict[str, Plan] = {"tokens": plan_epoch, "rows": by_rows, "random": at_random}


def planned(plan: Plan, by_tokens: bool) -> type[problem.TextProblem]:
    """A problem whose batches `plan` makes; unless they are even in tokens, a step is the mean of its own rows."""

    class Planned(problem.TextProblem):
        def plan(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
            return plan(self.lengths, batch_size, seed, epoch)

        def steps(self, batch_size: int) -> int:
            return len(self.plan(batch_size, 0, 1))

        def step_weight(self, rows: np.ndarray, steps: int) -> float:
            return super().step_weight(rows, steps) if by_tokens else self.weight(rows)

    return Planned


def main() -> None:
    import llmops.tasks.text_classification.classifier as classifier

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=SETTINGS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--model")
    asked = parser.parse_args()
    setting = SETTINGS[asked.data]
    given = {"epochs": asked.epochs, "model": asked.model}
    train = setting.train | {name: value for name, value in given.items() if value is not None}
    splits = read(setting, asked.folder, None)
    own, found = classifier.TextProblem, {}
    for seed in asked.seeds:
        for name, plan in PLANS.items():
            kind: Any = planned(plan, by_tokens=name == "tokens")
            classifier.TextProblem = kind  # type: ignore[misc]
            with tempfile.TemporaryDirectory() as folder:
                told = engine(setting, splits, train, Path(folder), seed)
            found.setdefault(name, []).append(told)
            say(
                f"seed {seed}  {name:7} test {told['test']:.4f}, padding {told['padding']:.1%}, {told['seconds']:.0f} s"
            )
    classifier.TextProblem = own  # type: ignore[misc]
    result = {
        name: {
            "test": [round(one["test"], 4) for one in runs],
            "mean": round(statistics.mean(one["test"] for one in runs), 4),
            "padding": round(runs[0]["padding"], 4),
            "seconds": round(statistics.median(one["seconds"] for one in runs), 1),
        }
        for name, runs in found.items()
    }
    say(json.dumps({"data": asked.data, "seeds": asked.seeds, "epochs": train["epochs"], **result}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
