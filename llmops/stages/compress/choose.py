"""Which candidate becomes the bundle. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from llmops.stages.compress.measure import Measured

SLOWER = 1.1
"""Less than a tenth slower is noise."""
GATES = ("size_mb", "latency_p95_ms")
"""Gates of `need.accept` that compress can judge already; through HTTP the latency will only be higher."""


def reasons(
    candidate: Measured, float32: Measured, trained: float, max_loss: float, accept: Mapping[str, Any]
) -> list[str]:
    """Why a candidate is not allowed; empty when it is.

    `trained` is the trained model's metric on validation, `max_loss` what a candidate may lose against it,
    `accept` the section `need.accept` as plain values.
    """
    said = []
    loss = trained - candidate.quality
    if loss > max_loss + 1e-9:
        said.append(f"loses {loss:.4f} on validation, more than {max_loss:g}")
    slower = candidate.latency_p50_ms > float32.latency_p50_ms * SLOWER
    if candidate.name != float32.name and slower and candidate.size_mb >= float32.size_mb:
        said.append("slower than float32 and not smaller")
    least = (accept.get("parity") or {}).get("at_least")
    if least is not None and candidate.agreement < least:
        said.append(
            f"the trained model's answer on {candidate.agreement:.3f} of validation, below the gate's {least:g}"
        )
    for gate in GATES:
        most = (accept.get(gate) or {}).get("at_most")
        value = getattr(candidate, gate)
        if most is not None and value > most:
            said.append(f"{gate} {value:.3g} is above the gate's {most:g}")
    return said


def choose(allowed: Sequence[Measured], prefer: Literal["size", "latency", "quality"]) -> Measured:
    """The best of the allowed candidates, of which there is at least one.

    Timings decide only when latency is preferred, and there all within a tenth of the fastest count as equally
    fast, so that noise does not choose.
    """
    if prefer == "quality":
        return min(allowed, key=lambda c: (-c.quality, c.size_mb, c.name))
    if prefer == "latency":
        fastest = min(c.latency_p50_ms for c in allowed)
        allowed = [c for c in allowed if c.latency_p50_ms <= fastest * SLOWER]
    return min(allowed, key=lambda c: (c.size_mb, -c.quality, c.name))
