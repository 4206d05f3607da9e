"""Figures of tables equal scikit-learn's, on ties, weights and many classes; their intervals cover the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from llmops.tasks import ranking
from llmops.tasks.bootstrap import bootstrap
from llmops.tasks.tabular import metrics

Floats = np.ndarray[Any, Any]


def sample(
    seed: int, rows: int = 400, ties: bool = True, weighted: bool = True
) -> tuple[Floats, Floats, Floats | None]:
    """(event, score, weight) with about a third events; `ties`: only twelve different scores."""
    rng = np.random.default_rng(seed)
    event = rng.random(rows) < 0.3
    score = 1 / (1 + np.exp(-(rng.normal(size=rows) + event)))
    score = np.round(score * 12) / 13 if ties else score
    return event, score, rng.integers(0, 4, rows).astype(np.float32) if weighted else None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_two_classes_equal_scikit_learn(seed: int, ties: bool, weighted: bool) -> None:
    event, score, weight = sample(seed, ties=ties, weighted=weighted)
    both = np.stack([1 - score, score], 1)
    ours = metrics.of_classes(event.astype(np.int64), both, (score > 0.5).astype(np.int64), weight)
    theirs = {
        "roc_auc": sk.roc_auc_score(event, score, sample_weight=weight),
        "average_precision": sk.average_precision_score(event, score, sample_weight=weight),
        "log_loss": sk.log_loss(event, np.clip(both, 1e-15, 1), sample_weight=weight),
        "brier": sk.brier_score_loss(event, score, sample_weight=weight),
        "accuracy": sk.accuracy_score(event, score > 0.5, sample_weight=weight),
        "f1_macro": sk.f1_score(event, score > 0.5, average="macro", sample_weight=weight),
        "precision": sk.precision_score(event, score > 0.5, sample_weight=weight),
        "recall": sk.recall_score(event, score > 0.5, sample_weight=weight),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("weighted", [True, False])
def test_many_classes_equal_scikit_learn(weighted: bool) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 600)
    raw = rng.normal(size=(600, 4)) + 1.5 * np.eye(4)[truth]
    said = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    weight = rng.random(600) if weighted else None
    decided = said.argmax(1)
    ours = metrics.of_classes(truth, said, decided, weight)
    # with weights scikit-learn's macro mean of one against the rest is the mean of these areas too
    areas = [sk.roc_auc_score(truth == n, said[:, n], sample_weight=weight) for n in range(4)]
    precisions = [sk.average_precision_score(truth == n, said[:, n], sample_weight=weight) for n in range(4)]
    assert ours["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert ours["average_precision"] == pytest.approx(np.mean(precisions), abs=1e-12)
    assert ours["log_loss"] == pytest.approx(sk.log_loss(truth, said, sample_weight=weight))
    for name, figure in (("f1_macro", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        assert ours[name] == pytest.approx(figure(truth, decided, average="macro", sample_weight=weight))
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, decided, sample_weight=weight))


def test_the_mean_of_many_areas_is_scikit_learns_one_against_the_rest() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 300)
    said = rng.dirichlet(np.ones(3), 300)
    assert ranking.macro_auc(truth, said) == pytest.approx(sk.roc_auc_score(truth, said, multi_class="ovr"), abs=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_numbers_equal_scikit_learn(weighted: bool) -> None:
    rng = np.random.default_rng(5)
    truth = rng.lognormal(size=500)
    said = truth + rng.normal(size=500)
    weight = rng.random(500) if weighted else None
    assert metrics.of_numbers(truth, said, weight) == pytest.approx({
        "rmse": sk.root_mean_squared_error(truth, said, sample_weight=weight),
        "mae": sk.mean_absolute_error(truth, said, sample_weight=weight),
        "r2": sk.r2_score(truth, said, sample_weight=weight),
    })  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(cells: list[tuple[bool, int, int]]) -> None:
    event, score, weight = (np.array(column) for column in zip(*cells, strict=True))
    pairs = [
        (float(w * v), float(a > b) + 0.5 * float(a == b))
        for yes, a, w in zip(event, score, weight, strict=True) if yes
        for no, b, v in zip(event, score, weight, strict=True) if not no
    ]  # fmt: skip
    total = sum(w for w, _ in pairs)
    wanted = sum(w * won for w, won in pairs) / total if total else 0.5
    assert ranking.roc_auc(event, score.astype(float), weight) == pytest.approx(wanted)


def test_rows_of_a_class_that_training_lacks_count_as_wrong() -> None:
    truth, said = np.array([0, 1, -1, -1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    found = metrics.of_classes(truth, said, said.argmax(1))
    assert found["accuracy"] == 0.5
    assert found["log_loss"] > 15


def test_rows_that_weigh_nothing_change_nothing() -> None:
    rng = np.random.default_rng(7)
    truth, said = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    weight = (rng.random(60) < 0.7).astype(float)
    weight[truth == 2] = 0
    weight[said.argmax(0)] = 0  # the surest rows among them
    kept = np.flatnonzero(weight)
    whole = metrics.of_classes(truth, said, said.argmax(1), weight)
    part = metrics.of_classes(truth[kept], said[kept], said[kept].argmax(1))
    for figures in (whole, part):
        figures.pop("calibration_error")
    assert whole == pytest.approx(part)


def test_figures_of_one_class_alone_are_numbers() -> None:
    for truth in (np.zeros(5, np.int64), np.ones(5, np.int64)):
        found = metrics.of_classes(truth, np.full((5, 2), 0.5), truth)
        assert np.isfinite(list(found.values())).all()
        assert found["roc_auc"] == 0.5


def test_weights_count_as_repeated_rows() -> None:
    event, score, weight = sample(8)
    assert weight is not None
    again = np.repeat(np.arange(len(event)), weight.astype(int))
    both = np.stack([1 - score, score], 1)
    weighed = metrics.of_classes(event.astype(int), both, (score > 0.4).astype(int), weight)
    repeated = metrics.of_classes(event[again].astype(int), both[again], (score[again] > 0.4).astype(int))
    for figures in (weighed, repeated):
        figures.pop("calibration_error")  # its bins hold equal counts of rows, whatever they weigh
    assert weighed == pytest.approx(repeated)


def test_the_area_of_delong_covers_the_true_one() -> None:
    """The true area of two normals one apart is Phi(1 / sqrt 2)."""
    rng, true, inside = np.random.default_rng(0), 0.7602499, 0
    for _ in range(400):
        event = np.arange(200) < 40
        low, high = ranking.auc_interval(event, rng.normal(size=200) + event)
        inside += low <= true <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_the_area_of_delong_is_its_own_formula() -> None:
    event, score, _ = sample(9, rows=80)
    pairs = (score[event][:, None] > score[~event]) + 0.5 * (score[event][:, None] == score[~event])
    variance = pairs.mean(1).var(ddof=1) / event.sum() + pairs.mean(0).var(ddof=1) / (~event).sum()
    low, high = ranking.auc_interval(event, score)
    assert (low + high) / 2 == pytest.approx(sk.roc_auc_score(event, score))
    assert (high - low) / 2 == pytest.approx(1.959964 * variance**0.5)
    assert ranking.auc_interval(np.zeros(3, bool), np.arange(3.0)) == (0.0, 1.0)


def test_the_bootstrap_covers_the_true_mean() -> None:
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        drawn = rng.exponential(size=150)
        low, high = bootstrap(lambda places, drawn=drawn: float(drawn[places].mean()), 150)
        inside += low <= 1.0 <= high
    assert inside >= 85


def test_calibration_error_is_0_for_honest_and_large_for_shifted_scores() -> None:
    rng = np.random.default_rng(2)
    score = rng.random(50_000)
    event = rng.random(50_000) < score
    assert metrics.calibration_error(event, score) < 0.015
    assert metrics.calibration_error(event, score**2) == pytest.approx(1 / 6, abs=0.02)
    assert metrics.calibration_error(event[:0], score[:0]) == 0.0


def test_curves_begin_and_end_where_they_must() -> None:
    event, score, _ = sample(6)
    roc, trade = ranking.curves(event, score)
    assert roc.lines["model"][0] == (0.0, 0.0) and roc.lines["model"][-1] == (1.0, 1.0)
    assert trade.lines["model"][-1] == (1.0, pytest.approx(event.mean()))
    assert len(metrics.reliability(event, score).lines["model"]) == 10
    assert ranking.curves(np.zeros(4, bool), np.arange(4.0)) == []
