"""Gates: compare the figures measured with what `need.accept` asks for. Pure; the runner acts on the verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SLACK = 1e-9
"""Floats that should be equal to a bound (0.925 - 0.93 against -0.005) may miss it by this much."""


@dataclass(frozen=True)
class Verdict:
    """One bound of one gate: the measured `value` (None: there was none), whether it holds, and `why` in words."""

    gate: str
    bound: str
    value: float | None
    passed: bool
    why: str


def judge(numbers: Mapping[str, Any], accept: Mapping[str, Any]) -> list[Verdict]:
    """Judge `numbers` by the gates of `accept` (the section `need.accept` as plain values), in its order.

    A gate names a figure and bounds it by `at_least` and `at_most`. The gate `champion` bounds the figure
    `champion_delta` (how much better the candidate is than the champion, on the same test rows) by `no_worse_by`; None
    there says that no champion serves yet, and passes. A figure that was not measured fails its gate.
    """
    verdicts: list[Verdict] = []
    for gate, bounds in accept.items():
        if bounds is None:
            continue
        if gate == "champion":
            verdicts.append(_champion(numbers, float(bounds["no_worse_by"])))
        else:
            verdicts.extend(_bounded(gate, numbers.get(gate), bounds))
    return verdicts


def passed(verdicts: list[Verdict]) -> bool:
    """Whether every gate holds."""
    return all(verdict.passed for verdict in verdicts)


def words(accept: Mapping[str, Any]) -> list[str]:
    """The gates as sentences for people, in the order of `accept`."""
    said: list[str] = []
    for gate, bounds in accept.items():
        if bounds is None:
            continue
        if gate == "champion":
            said.append(f"not more than {bounds['no_worse_by']:g} worse than the champion on the same test rows")
            continue
        said.extend(
            f"{gate} {_phrase(key)} {bounds[key]:g}" for key in ("at_least", "at_most") if bounds.get(key) is not None
        )
    return said


def _bounded(gate: str, value: Any, bounds: Mapping[str, Any]) -> list[Verdict]:
    verdicts = []
    for key in ("at_least", "at_most"):
        limit = bounds.get(key)
        if limit is None:
            continue
        bound = f"{_phrase(key)} {limit:g}"
        number = _number(value)
        if number is None:
            verdicts.append(
                Verdict(gate, bound, None, False, f"{gate} was not measured, so nobody can say that it is {bound}")
            )
            continue
        holds = number >= limit - SLACK if key == "at_least" else number <= limit + SLACK
        verdicts.append(
            Verdict(gate, bound, number, holds, f"{gate} is {number:.4g}, {'as' if holds else 'not'} {bound}")
        )
    return verdicts


def _champion(numbers: Mapping[str, Any], no_worse_by: float) -> Verdict:
    bound = f"at most {no_worse_by:g} worse than the champion"
    if "champion_delta" in numbers and numbers["champion_delta"] is None:
        return Verdict("champion", bound, None, True, "no champion serves yet")
    delta = _number(numbers.get("champion_delta"))
    if delta is None:
        return Verdict("champion", bound, None, False, "the champion was not measured on the same test rows")
    holds = delta >= -no_worse_by - SLACK
    return Verdict(
        "champion",
        bound,
        delta,
        holds,
        f"{abs(delta):.4g} {'better' if delta >= 0 else 'worse'} than the champion, {'as' if holds else 'not'} {bound}",
    )


def _phrase(key: str) -> str:
    return key.replace("_", " ")


def _number(value: Any) -> float | None:
    """`value` as a number that can be compared; None for anything else, NaN included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)
