"""Which candidate becomes the bundle. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmops.core.protocols import Measured, Metric

SLOWER = 1.1
"""Less than a tenth slower is noise."""
SPEED = ("_ms", "_per_s")
"""Gates whose names end so can be judged already: through HTTP it will only be slower."""


@dataclass(frozen=True)
class Entry:
    """A candidate that was made and measured."""

    name: str
    size_mb: float
    measured: Measured


def judged_early(gate: str) -> bool:
    """Whether compress can judge a gate of `need.accept` before the real server does."""
    return gate in ("size_mb", "parity") or gate.endswith(SPEED)


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
    slower = ours.cost_ms > float32.measured.cost_ms * SLOWER
    if candidate.name != float32.name and slower and candidate.size_mb >= float32.size_mb:
        said.append("slower than float32 and not smaller")
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
