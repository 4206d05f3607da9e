"""What a learner tells of a training: the part that is the same for all tasks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from llmops.engine.state import State, Trainable

TOLD = ("epoch", "loss", "train_loss", "learning_rate", "seconds")
"""Of an epoch's row, what is no figure of the validation rows; `loss` is one when there is `train_loss` too."""


def summary(state: State, problem: Trainable, setup_s: float) -> dict[str, Any]:
    """{"metrics" (best epoch, validation), "history", "curve", "best_epoch", "epochs", "seconds" (set-up too),
    "rows_per_s", "tokens_per_s" (evaluation and checkpoints included), "peak_memory_mb", "padding" (share of cells),
    "spent" (seconds by phase), "machine" (batch size, precision, processes, utilisation)}."""
    best = next(row for row in state.history if row["epoch"] == state.best_epoch)
    seconds = max(1e-9, state.seconds)
    batches = problem.plan(state.machine["batch_size"], 0, 1)
    tokens, cells = (sum(map(count, batches)) for count in (problem.tokens, problem.cells))
    return {
        "metrics": metrics(best),
        "history": state.history,
        "curve": state.curve,
        "best_epoch": state.best_epoch,
        "epochs": len(state.history),
        "seconds": setup_s + state.seconds,
        "rows_per_s": state.rows / seconds,
        "tokens_per_s": state.tokens / seconds,
        "peak_memory_mb": state.peak_memory_mb,
        "padding": 1.0 - tokens / max(1, cells),
        "spent": state.spent,
        "machine": state.machine,
    }


def metrics(row: dict[str, float]) -> dict[str, float]:
    """An epoch's figures of the validation rows."""
    own: Collection[str] = [name for name in TOLD if name != "loss" or "train_loss" not in row]
    return {name: value for name, value in row.items() if name not in own}
