"""Gates: every bound is judged, a missing figure fails, and the champion gate knows when there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.core.gates import judge, passed, words
from llmops.tasks.text_classification.config import TextAcceptSection as AcceptSection

NONE_YET = {"champion_delta": None}


def accept(**gates: object) -> dict[str, object]:
    """`need.accept` with only these gates, as the runner hands it over."""
    empty = dict.fromkeys(AcceptSection.model_fields)
    return AcceptSection.model_validate({**empty, **gates}).plain()


@pytest.mark.parametrize(
    ("value", "bounds", "holds"),
    [
        (0.92, {"at_least": 0.92}, [True]),
        (0.9199, {"at_least": 0.92}, [False]),
        (30, {"at_most": 30}, [True]),
        (30.1, {"at_most": 30}, [False]),
        (0.5, {"at_least": 0.4, "at_most": 0.6}, [True, True]),
        (0.7, {"at_least": 0.4, "at_most": 0.6}, [True, False]),
    ],
)
def test_bounds(value: float, bounds: dict[str, float], holds: list[bool]) -> None:
    verdicts = judge({"accuracy": value}, accept(accuracy=bounds))
    assert [verdict.passed for verdict in verdicts] == holds
    assert passed(verdicts) == all(holds)
    assert all(verdict.value == value for verdict in verdicts)


@pytest.mark.parametrize(
    "numbers", [{}, {"accuracy": None}, {"accuracy": float("nan")}, {"accuracy": "0.99"}, {"accuracy": True}]
)
def test_a_figure_that_is_missing_fails(numbers: dict[str, object]) -> None:
    (verdict,) = judge(numbers, accept(accuracy={"at_least": 0.5}))
    assert not verdict.passed
    assert verdict.value is None
    assert "not measured" in verdict.why


@pytest.mark.parametrize(("delta", "holds"), [(0.01, True), (0.0, True), (0.925 - 0.93, True), (-0.0051, False)])
def test_champion(delta: float, holds: bool) -> None:
    (verdict,) = judge({"champion_delta": delta}, accept(champion={"no_worse_by": 0.005}))
    assert verdict.passed is holds
    assert verdict.gate == "champion"


def test_without_a_champion_its_gate_passes_but_an_unmeasured_champion_does_not() -> None:
    gates = accept(champion={"no_worse_by": 0.005})
    assert judge(NONE_YET, gates)[0].passed
    assert not judge({}, gates)[0].passed


def test_defaults_ask_for_parity_baseline_and_champion() -> None:
    gates = AcceptSection().plain()
    assert [verdict.gate for verdict in judge(NONE_YET, gates)] == ["parity", "above_baseline", "champion"]
    assert passed(judge({"parity": 1.0, "above_baseline": 0.02, **NONE_YET}, gates))
    assert not passed(judge({"parity": 1.0, "above_baseline": -0.02, **NONE_YET}, gates))


def test_words_name_every_bound_once() -> None:
    gates = accept(accuracy={"at_least": 0.92}, latency_p95_ms={"at_most": 30}, champion={"no_worse_by": 0.005})
    said = words(gates)
    assert said == [
        "latency_p95_ms at most 30",
        "not more than 0.005 worse than the champion on the same test rows",
        "accuracy at least 0.92",
    ]
    assert len(said) == len(judge({}, gates))


@given(value=st.floats(-1e6, 1e6), low=st.floats(-1e6, 1e6))
def test_at_least_and_at_most_agree_with_comparison(value: float, low: float) -> None:
    above, below = (
        judge({"f1_macro": value}, accept(f1_macro={key: low}))[0].passed for key in ("at_least", "at_most")
    )
    assert above or below
    if abs(value - low) > 1e-6:
        assert above == (value > low)
        assert below == (value < low)
