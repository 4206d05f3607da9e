"""What is settled on rows that the model never saw: honest probabilities, a cheap threshold, intervals that hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from llmops.core.accept import CostsSection
from llmops.tasks.ranking import roc_auc
from llmops.tasks.tabular.calibration import apply, fit_calibration
from llmops.tasks.tabular.metrics import calibration_error, log_loss
from llmops.tasks.tabular.quality import decided, figures, unsettled
from llmops.tasks.tabular.settle import expected_cost, fit_interval, interval, settle, threshold

Floats = np.ndarray[Any, Any]
RAW: dict[str, Any] = {"method": "platt", "slope": 1.0, "intercept": 0.0}


def skewed(rows: int, seed: int, bent: bool) -> tuple[Floats, Floats]:
    """(raw [rows, 1], class): log-odds that are twice too sure and too high; `bent`: not a line of the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1.5, 1.2, rows)
    event = rng.random(rows) < 1 / (1 + np.exp(-true))
    raw = np.where(true > -1, true * 3 + 2, true) if bent else 2 * true + 1
    return raw[:, None], event.astype(np.int64)


@pytest.mark.parametrize(("rows", "bent", "method"), [(1500, False, "platt"), (20_000, True, "isotonic")])
def test_two_classes_are_calibrated_and_keep_their_order(rows: int, bent: bool, method: str) -> None:
    raw, truth = skewed(rows, 0, bent)
    found = fit_calibration(raw, truth, np.ones(rows), 2)
    assert found["method"] == method
    fresh, outcome = skewed(20_000, 1, bent)
    before, after = apply(fresh, RAW), apply(fresh, found)
    assert log_loss(outcome, after) < log_loss(outcome, before) - 0.005
    assert calibration_error(outcome == 1, after[:, 1]) < 0.02 < calibration_error(outcome == 1, before[:, 1])
    order = np.argsort(fresh[:, 0])
    assert (np.diff(after[order, 1]) >= 0).all()
    assert roc_auc(outcome == 1, after[:, 1]) == pytest.approx(roc_auc(outcome == 1, fresh[:, 0]), abs=1e-3)
    assert ((after > 0) & (after < 1)).all()
    assert after.sum(1) == pytest.approx(np.ones(len(after)))


def test_isotonic_rises_strictly_between_the_ends() -> None:
    raw, truth = skewed(20_000, 2, bent=True)
    found = fit_calibration(raw, truth, np.ones(len(raw)), 2)
    assert found["method"] == "isotonic"
    assert (np.diff(found["raw"]) > 0).all() and (np.diff(found["probability"]) > 0).all()
    assert len(found["raw"]) < 500


def test_few_rows_are_calibrated_by_a_line() -> None:
    raw, truth = skewed(900, 3, bent=True)
    assert fit_calibration(raw, truth, np.ones(900), 2)["method"] == "platt"


def test_perfect_separation_and_a_single_class_stay_finite() -> None:
    raw = np.linspace(-3, 3, 60)[:, None]
    for truth in ((raw[:, 0] > 0).astype(int), np.zeros(60, int), np.ones(60, int), np.full(60, -1)):
        said = apply(raw, fit_calibration(raw, truth, np.ones(60), 2))
        assert np.isfinite(said).all() and ((said > 0) & (said < 1)).all()


def test_a_model_that_is_worse_than_chance_is_not_turned_round() -> None:
    raw, truth = skewed(2000, 4, bent=False)
    said = apply(np.array([[-2.0], [2.0]]), fit_calibration(-raw, truth, np.ones(2000), 2))[:, 1]
    assert said[1] >= said[0]


def test_weights_count_in_calibration() -> None:
    raw, truth = skewed(3000, 5, bent=False)
    weight = np.where(truth == 1, 3.0, 1.0)
    said = apply(raw, fit_calibration(raw, truth, weight, 2))[:, 1]
    assert said.mean() > truth.mean() + 0.1
    plain = LogisticRegression(C=1e9, tol=1e-8).fit(raw, truth, weight)
    assert said == pytest.approx(plain.predict_proba(raw)[:, 1], abs=2e-3)
    assert np.average(said, weights=weight) == pytest.approx(np.average(truth, weights=weight), abs=0.01)


def test_many_classes_are_cooled() -> None:
    rng = np.random.default_rng(6)
    true = rng.normal(size=(4000, 4))
    odds = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    truth = (odds.cumsum(1) > rng.random((4000, 1))).argmax(1)
    found = fit_calibration(true * 3, truth, np.ones(4000), 4)
    assert found["temperature"] == pytest.approx(3.0, rel=0.1)
    said = apply(true * 3, found)
    assert (said.argmax(1) == true.argmax(1)).all()
    hot = apply(true * 3, {"method": "temperature", "temperature": 1.0})
    assert log_loss(truth, said) < log_loss(truth, hot) - 0.1


@pytest.mark.parametrize(("missed", "alarm"), [(5, 1), (1, 3), (1, 1), (0, 1), (1, 0)])
def test_the_threshold_costs_least_on_many_rows(missed: float, alarm: float) -> None:
    rng = np.random.default_rng(7)
    score = rng.beta(1, 4, 60_000)
    event = rng.random(60_000) < np.clip(score * 1.5, 0, 1)  # the score promises too little
    costs, weight = CostsSection(missed=missed, alarm=alarm), np.ones(60_000)
    found = threshold(score, event, weight, costs)
    least = min(expected_cost(event, score >= cut, costs) for cut in np.linspace(0, 1.01, 400))
    assert expected_cost(event, score >= found, costs) <= least * 1.01 + 1e-3


def test_the_threshold_counts_weights() -> None:
    rng = np.random.default_rng(8)
    score = rng.random(40_000)
    event = rng.random(40_000) < score
    costs = CostsSection(missed=1, alarm=1)
    assert threshold(score, event, np.ones(40_000), costs) == pytest.approx(0.5, abs=0.03)
    assert threshold(score, event, np.where(event, 4.0, 1.0), costs) == pytest.approx(0.2, abs=0.03)


def test_the_threshold_of_few_rows_is_near_what_honest_probabilities_promise() -> None:
    costs = CostsSection(missed=4, alarm=1)
    found = threshold(np.array([0.1, 0.5, 0.6]), np.array([False, False, True]), np.ones(3), costs)
    assert found == pytest.approx(0.2, abs=0.01)
    assert threshold(np.array([0.1, 0.9]), np.array([False, True]), np.ones(2), None) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.floats(0.1, 9))
def test_thresholds_are_probabilities(cells: list[tuple[float, bool]], missed: float) -> None:
    score, event = (np.array(column) for column in zip(*cells, strict=True))
    found = threshold(score, event, np.ones(len(score)), CostsSection(missed=missed, alarm=1))
    assert 0 <= found <= 1


def uneven(rows: int, seed: int) -> tuple[Floats, Floats]:
    """(said, truth): errors grow with the answer."""
    rng = np.random.default_rng(seed)
    said = rng.uniform(1, 20, rows)
    return said, said + said * 0.3 * rng.standard_t(5, rows)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_intervals_hold_what_they_promise_everywhere(coverage: float) -> None:
    fitted = fit_interval(*uneven(3000, 0), coverage)
    said, truth = uneven(20_000, 1)
    bounds = interval(said, fitted)
    inside = (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
    assert inside.mean() == pytest.approx(coverage, abs=0.02)
    for low, high in ((1, 6), (6, 13), (13, 20)):
        part = (said >= low) & (said < high)
        assert inside[part].mean() == pytest.approx(coverage, abs=0.05)
    width = bounds[:, 1] - bounds[:, 0]
    assert width[said > 15].mean() > 2 * width[said < 5].mean()


@pytest.mark.parametrize("rows", [1, 2, 10, 60])
def test_intervals_of_few_rows_and_of_constant_answers_are_finite(rows: int) -> None:
    rng = np.random.default_rng(rows)
    truth = rng.normal(size=rows)
    for said in (np.zeros(rows), truth.copy()):
        bounds = interval(said, fit_interval(said, truth, 0.9))
        assert np.isfinite(bounds).all() and (bounds[:, 0] <= bounds[:, 1]).all()
    assert np.mean(np.abs(truth) <= interval(np.zeros(rows), fit_interval(np.zeros(rows), truth, 0.9))[:, 1]) >= 0.9


def test_settle_and_its_figures() -> None:
    raw, truth = skewed(4000, 9, bent=False)
    section: Any = SimpleNamespace(costs=CostsSection(missed=5, alarm=1), coverage=0.9)
    settled = settle(section, raw, truth, np.ones(4000), 2)
    told = figures(section, settled, raw, truth)
    plain = figures(section, unsettled(2), raw, truth)
    assert told["expected_cost"] < plain["expected_cost"]
    assert told["roc_auc"] == pytest.approx(plain["roc_auc"], abs=1e-3)
    said = decided(apply(raw, settled["calibration"]), settled["threshold"])
    assert told["recall"] == pytest.approx(said[truth == 1].mean())
    numbers = figures(section, settle(section, raw, raw[:, 0] + 1, np.ones(4000), 0), raw, raw[:, 0] + 1)
    assert numbers["interval_coverage"] >= 0.9 and numbers["mae"] == pytest.approx(1.0)
