"""Gates that no figure can meet, or that every figure meets: mistakes that show before any work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llmops.core.errors import DataError, Mistake

INFINITE = float("inf")
PROPORTIONS = {"accuracy", "subset_accuracy", "parity", "recall_at_1", "recall_at_5", "exact_match", "reward_accuracy"}
"""Figures that count how many of the test rows are right: statistics knows how exactly so many rows know them."""
SHARES = PROPORTIONS | {
    "f1_micro", "f1_macro", "f1_weighted", "balanced_accuracy", "mrr", "rouge_l", "roc_auc", "average_precision",
    "recall", "precision", "coverage", "answered_accuracy", "outside_recall", "brier", "calibration_error",
    "interval_coverage", "true_positive_rate_gap", "selection_rate_gap",
}  # fmt: skip
"""Figures between 0 and 1."""
DIFFERENCES = {"above_baseline"}
"""Figures that compare two values of the task's metric."""
RANGES = {"chrf": (0.0, 100.0), "perplexity": (1.0, INFINITE)}
"""Figures with a range of their own; all others are 0 or more."""


def gate_mistakes(gate: str, bounds: Mapping[str, float | None], metric: str) -> list[Mistake]:
    """What is wrong with the bounds of one gate; `metric` is the name of the task's metric."""
    found = []
    low, high = _range(gate, metric)
    inside = f"between {low:g} and {high:g}" if high < INFINITE else f"{low:g} or more"
    for key, bound in bounds.items():
        if bound is not None and not low <= bound <= high:
            do = "write a share, such as 0.92 for 92 %" if gate in SHARES else f"write a number {inside}"
            found.append(
                Mistake(f"{gate} is always {inside}; {key} {bound:g} is not.", f"need.accept.{gate}.{key}", do=do)
            )
    least, most = bounds.get("at_least"), bounds.get("at_most")
    if least is not None and most is not None and least > most:
        what = f"no {gate} is at least {least:g} and at most {most:g}."
        found.append(Mistake(what, f"need.accept.{gate}", do="exchange the two bounds, or leave one out"))
    return found


def never_measured(gate: str, metric: str) -> Mistake:
    """A gate on a figure that answers of the config's kind do not have."""
    what = f"{gate} is no figure of what `task:` asks for, so the gate could never be passed."
    return Mistake(what, f"need.accept.{gate}", do=f"take another, such as {metric}, or leave it out")


def refuse_gates_of_two(accept: Mapping[str, Any], of_two: Collection[str], classes: int) -> None:
    """Raises DataError for a gate on a figure that only two classes have (`of_two`), where there are more."""
    gate = next((gate for gate, bounds in accept.items() if bounds and gate in of_two), None)
    if gate is not None and classes > 2:
        raise DataError(
            f"{gate} is a figure of two classes, and the rows have {classes:,}.",
            f"need.accept.{gate}",
            "take a mean over classes: f1_macro, roc_auc, or for texts balanced_accuracy",
        )


def _range(gate: str, metric: str) -> tuple[float, float]:
    widest = 1.0 if metric in SHARES else INFINITE
    if gate in DIFFERENCES:
        return -widest, widest
    if gate == "champion":
        return 0.0, widest
    return (0.0, 1.0) if gate in SHARES else RANGES.get(gate, (0.0, INFINITE))
