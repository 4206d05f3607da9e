"""Which candidate becomes the bundle. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmops.core.intervals import Z95
from llmops.core.protocols import Measured, Metric

SLOWER = 1.1
"""Less than a tenth slower is noise."""
UNFELT_MS = 0.3
"""Nor is less than this felt by anybody who asks a server: tiny networks have nothing to win."""
SPEED = ("_ms", "_per_s")
"""Gates whose names end so can be judged already: through HTTP it will only be slower."""


@dataclass(frozen=True)
class Entry:
    """A candidate that was made and measured. `slower` is how many times as long as float32 it takes for one answer;
    `change` how much righter than the trained model's its answers to the same rows are (mean, and 95 % interval), where
    rows are judged one by one."""

    name: str
    size_mb: float
    measured: Measured
    slower: float = 1.0
    change: tuple[float, float, float] | None = None


def judged_early(gate: str) -> bool:
    """Whether compress can judge a gate of `need.accept` before the real server does."""
    return gate in ("size_mb", "parity") or gate.endswith(SPEED)


def paired(ours: Any, theirs: Any) -> tuple[float, float, float]:
    """How much righter `ours` are than `theirs`, of the same rows, float64 [rows] each: the mean difference and its
    95 % interval."""
    apart = ours - theirs
    mean = float(apart.mean())
    half = Z95 * float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else 1.0
    return mean, mean - half, mean + half


def nearest(entries: Sequence[Entry], limits: Mapping[str, Any]) -> str:
    """In words what the smallest, the fastest and the best candidate have, beside what is asked."""
    asked = ", ".join(f"{name} {bound} {value:g}" for name, bounds in limits.items() if bounds is not None
                      for bound, value in bounds.items() if value is not None)  # fmt: skip
    smallest = min(entries, key=lambda one: one.size_mb)
    fastest = min(entries, key=lambda one: one.measured.cost_ms)
    said = f"{smallest.name} has {smallest.size_mb:.1f} MB, {fastest.name} takes {fastest.measured.cost_ms:.2f} ms"
    return f"nearest: {said}" + (f"; asked: {asked}" if asked else "")


def reasons(
    candidate: Entry, float32: Entry, trained: float, metric: Metric, max_loss: float, accept: Mapping[str, Any]
) -> list[str]:
    """Why a candidate is not allowed; empty when it is.

    `trained` is the trained model's metric on validation, `max_loss` what a candidate may lose against it,
    `accept` the section `need.accept` as plain values.
    """
    said = []
    ours = candidate.measured
    loss = metric.gain(trained, ours.quality)
    if loss > max_loss + 1e-9:
        said.append(f"loses {loss:.4f} on validation, more than {max_loss:g}")
    more_ms = (candidate.slower - 1) * float32.measured.cost_ms
    if candidate.slower > SLOWER and more_ms > UNFELT_MS:
        said.append(f"slower than float32 ({candidate.slower:.2f} times as long)")
    least = (accept.get("parity") or {}).get("at_least")
    if least is not None and ours.agreement < least:
        said.append(f"the trained model's answer on {ours.agreement:.3f} of validation, below the gate's {least:g}")
    for gate, bounds in accept.items():
        value = candidate.size_mb if gate == "size_mb" else ours.figures.get(gate) if gate.endswith(SPEED) else None
        if bounds is None or not isinstance(value, int | float):
            continue
        least, most = bounds.get("at_least"), bounds.get("at_most")
        if most is not None and value > most:
            said.append(f"{gate} {value:.3g} is above the gate's {most:g}")
        if least is not None and value < least:
            said.append(f"{gate} {value:.3g} is below the gate's {least:g}")
    return said


def choose(allowed: Sequence[Entry], prefer: Literal["size", "latency", "quality"], metric: Metric) -> Entry:
    """The best of the allowed candidates, of which there is at least one.

    Timings decide only when latency is preferred, and there all within a tenth of the fastest count as equally
    fast, so that noise does not choose.
    """

    def goodness(entry: Entry) -> float:
        return metric.gain(entry.measured.quality, 0.0)

    if prefer == "quality":
        return min(allowed, key=lambda c: (-goodness(c), c.size_mb, c.name))
    if prefer == "latency":
        fastest = min(c.measured.cost_ms for c in allowed)
        allowed = [c for c in allowed if c.measured.cost_ms <= fastest * SLOWER]
    return min(allowed, key=lambda c: (c.size_mb, -goodness(c), c.name))
