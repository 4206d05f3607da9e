"""Models of tables answer as the library that fitted them does, hold to directions, and heed weights."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from llmops.tasks.ranking import roc_auc
from llmops.tasks.tabular import forest, trees
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.blend import chosen_weights, loss
from llmops.tasks.tabular.config import ForestSection, LinearSection, TreesSection
from llmops.tasks.tabular.fitted import Blend, TreesFitted, rebuilt
from llmops.tasks.tabular.forest import fit_forest
from llmops.tasks.tabular.linear import chosen_strength, fit_linear
from llmops.tasks.tabular.trees import below, fit_trees

Floats = np.ndarray[Any, Any]
QUICK = TreesSection(rounds=60, patience=60, min_rows=5)
FREE = [0] * 6


def rows_of(classes: int, rows: int = 600, seed: int = 0, gaps: bool = True) -> Arrays:
    """Six features: normal, steps of a tenth, codes 0 to 9, a flag, zeros of both signs, one with gaps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 2] = rng.integers(0, 10, rows)
    x[:, 3] = rng.random(rows) < 0.4
    x[:, 4] = np.where(rng.random(rows) < 0.5, np.where(rng.random(rows) < 0.5, -0.0, 0.0), x[:, 4])
    x[rng.random(rows) < (0.3 if gaps else 0), 5] = np.nan
    pull = x[:, 0] + x[:, 1] * x[:, 3] + (x[:, 2] > 6) + np.where(np.isnan(x[:, 5]), 1.5, x[:, 5]) * (x[:, 4] >= 0)
    noisy = pull + rng.normal(size=rows)
    if not classes:
        return Arrays(x, noisy.astype(np.float64) * 10 + 100, np.ones(rows, np.float32))
    cuts = np.quantile(noisy, np.linspace(0, 1, classes + 1)[1:-1])
    return Arrays(x, np.searchsorted(cuts, noisy).astype(np.int64), np.ones(rows, np.float32))


def awkward(like: Arrays, fitted: TreesFitted) -> Floats:
    """Rows with gaps everywhere, zeros of both signs, and values at, just below and just above every threshold."""
    rng = np.random.default_rng(1)
    inner = np.flatnonzero(fitted.feature >= 0)
    near = []
    for node in inner[:300]:
        at = fitted.threshold[node]
        for value in (at, np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))):
            row = like.x[rng.integers(len(like))].copy()
            row[fitted.feature[node]] = value
            near.append(row)
    x = np.concatenate([np.array(near, np.float32).reshape(-1, like.x.shape[1]), like.x])
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.05] = -0.0
    x[rng.random(x.shape) < 0.02] = np.float32(3.4e38)
    x[rng.random(x.shape) < 0.02] = np.float32(1e-40)
    x[np.abs(x) == np.float32(1e-35)] = 0.0  # LightGBM's own mark of zero, which it takes for zero
    return x


def raw_of(said: Any, classes: int) -> Floats:
    """Log-odds of LightGBM's probabilities (a forest's raw answers are sums there, and not means)."""
    if classes == 2:
        return np.log(said / (1 - said)).reshape(-1, 1)
    return np.log(said) if classes else said.reshape(-1, 1)


@pytest.fixture
def boosters(monkeypatch: pytest.MonkeyPatch) -> list[lgb.Booster]:
    """Every booster that LightGBM trains, as it comes."""
    made: list[lgb.Booster] = []
    train = lgb.train

    def kept(*args: Any, **more: Any) -> lgb.Booster:
        made.append(train(*args, **more))
        return made[-1]

    monkeypatch.setattr(lgb, "train", kept)
    return made


@pytest.mark.parametrize("classes", [0, 2, 4])
@pytest.mark.parametrize("gaps", [True, False])
def test_trees_answer_as_lightgbm(classes: int, gaps: bool, boosters: list[lgb.Booster]) -> None:
    rows, held_out = rows_of(classes, gaps=gaps), rows_of(classes, 200, seed=1, gaps=gaps)
    fitted = fit_trees(rows, held_out, classes, QUICK, FREE, 0)
    [booster] = boosters
    x = awkward(rows, fitted)
    theirs = booster.predict(x.astype(np.float64), raw_score=True, num_iteration=booster.best_iteration)
    assert fitted.raw(x) == pytest.approx(np.asarray(theirs).reshape(len(x), -1), abs=1e-10)
    assert len(fitted.root) == booster.best_iteration * (classes if classes > 2 else 1)


@pytest.mark.parametrize("classes", [0, 2, 4])
def test_a_forest_answers_as_lightgbm(classes: int, boosters: list[lgb.Booster]) -> None:
    rows = rows_of(classes)
    fitted = fit_forest(rows, classes, ForestSection(), FREE, 0)
    [booster] = boosters
    x = awkward(rows, fitted)
    theirs, ours = raw_of(booster.predict(x.astype(np.float64)), classes), fitted.raw(x)
    if classes > 2:
        ours = ours - np.log(np.exp(ours).sum(1, keepdims=True))
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_forest_of_trees_that_cannot_grow_answers_the_overall_rate(classes: int) -> None:
    rows = rows_of(classes, 200)
    blank = Arrays(np.zeros_like(rows.x), rows.y, rows.weight)
    said = fit_forest(blank, classes, ForestSection(), FREE, 0).raw(blank.x[:1])[0]
    if not classes:
        assert said[0] == pytest.approx(rows.y.mean(), rel=0.01)
    elif classes == 2:
        assert 1 / (1 + np.exp(-said[0])) == pytest.approx(rows.y.mean(), abs=0.01)
    else:
        rates = np.exp(said) / np.exp(said).sum()
        assert rates == pytest.approx(np.bincount(rows.y) / len(rows), abs=0.02)


def test_a_forest_of_rare_events_stays_near_their_rate() -> None:
    """Trees that happen to see no event cannot grow; they must not pull the mean to one half."""
    rng = np.random.default_rng(0)
    y = np.zeros(300, np.int64)
    y[:2] = 1
    rows = Arrays(rng.normal(size=(300, 4)).astype(np.float32), y, np.ones(300, np.float32))
    said = fit_forest(rows, 2, ForestSection(), [0] * 4, 0).raw(rows.x)
    assert np.median(1 / (1 + np.exp(-said))) < 0.02


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e30, 1e30), st.floats(-(2.0**100), 2.0**100, width=32))
def test_a_rounded_threshold_divides_float32_as_the_true_one_does(threshold: float, value: float) -> None:
    for near in (value, float(np.float32(threshold))):
        assert (np.float32(near) <= below(threshold)) == (near <= threshold)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_trees_of_rows_that_say_nothing_answer_the_mean(classes: int) -> None:
    rows = rows_of(classes, 100)
    blank = Arrays(np.zeros_like(rows.x), rows.y, rows.weight)
    said = fit_trees(blank, blank, classes, QUICK, FREE, 0).raw(blank.x[:3])
    assert (said == said[0]).all()
    if not classes:
        assert said[0, 0] == pytest.approx(rows.y.mean(), rel=1e-5)


def test_early_stopping_keeps_the_best_number_of_rounds() -> None:
    rows, held_out = rows_of(2), rows_of(2, 300, seed=1)
    told: list[tuple[int, float]] = []
    settings_ = TreesSection(rounds=1000, patience=30, learning_rate=0.3)
    fitted = fit_trees(rows, held_out, 2, settings_, FREE, 0, lambda n, loss: bool(told.append((n, loss))))
    assert len(fitted.root) < 200 and told[0][0] == trees.EVERY
    short = TreesSection(rounds=len(fitted.root), patience=1000, learning_rate=0.3)
    same = fit_trees(rows, held_out, 2, short, FREE, 0)
    assert same.raw(rows.x) == pytest.approx(fitted.raw(rows.x))


def test_a_listener_ends_boosting() -> None:
    rows = rows_of(2)
    fitted = fit_trees(rows, rows, 2, TreesSection(rounds=500), FREE, 0, lambda n, loss: n >= 50)
    assert len(fitted.root) == 50


@pytest.mark.parametrize("classes", [0, 2])
def test_linear_equals_scikit_learn(classes: int) -> None:
    rows = rows_of(classes, gaps=False)
    rows = Arrays(rows.x, rows.y, np.random.default_rng(0).random(len(rows)).astype(np.float32))
    z = (rows.x - rows.x.mean(0, dtype=float)) / rows.x.std(0, dtype=float)
    said = fit_linear(rows, classes, LinearSection(strength=0.5), FREE).raw(rows.x)[:, 0]
    if classes:
        model: Any = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(z, rows.y, rows.weight)
        assert said == pytest.approx(model.decision_function(z), abs=0.01)
    else:
        model = Ridge(alpha=2.0).fit(z, rows.y, rows.weight)
        assert said == pytest.approx(model.predict(z), abs=1e-4)


def test_linear_of_many_classes_equals_scikit_learn_up_to_a_shift() -> None:
    rows = rows_of(4, gaps=False)
    z = (rows.x - rows.x.mean(0, dtype=float)) / rows.x.std(0, dtype=float)
    said = fit_linear(rows, 4, LinearSection(strength=1.0), FREE).raw(rows.x)
    model = LogisticRegression(tol=1e-10, max_iter=1000).fit(z, rows.y)
    odds = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    assert odds == pytest.approx(model.predict_proba(z), abs=5e-3)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_linear_learns_from_gaps_and_lives_with_odd_columns(classes: int) -> None:
    rows = rows_of(classes, 400)
    x = np.concatenate([rows.x, np.full((400, 1), np.nan), np.full((400, 1), 7)], 1).astype(np.float32)
    fitted = fit_linear(Arrays(x, rows.y, rows.weight), classes, LinearSection(strength=1.0), [0] * 8)
    assert np.isfinite(fitted.raw(x)).all()
    assert fitted.weights[8 + 5].any()  # whether the sixth is missing says much
    assert not fitted.weights[[6, 7, 14, 15]].any()


@pytest.mark.parametrize(("classes", "present"), [(2, [1]), (3, [2]), (3, [0, 2]), (4, [1, 3])])
def test_linear_of_folds_that_lack_classes(classes: int, present: list[int]) -> None:
    rows = rows_of(2, 200)
    y = np.array(present)[rows.y % len(present)]
    said = fit_linear(Arrays(rows.x, y, rows.weight), classes, LinearSection(strength=1.0), FREE).raw(rows.x)
    assert said.shape == (200, classes if classes > 2 else 1) and np.isfinite(said).all()
    if classes > 2:
        odds = np.exp(said) / np.exp(said).sum(1, keepdims=True)
        assert odds[:, present].sum(1).min() > 0.95
        assert (said.argmax(1) == y).mean() > 0.7
    else:
        assert (said > 3).all()


def test_strength_is_small_where_columns_are_noise() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 30))
    noise = Arrays(z, rng.integers(0, 2, 300), np.ones(300, np.float32))
    clear = Arrays(z, (z[:, 0] + z[:, 1] > 0).astype(np.int64), np.ones(300, np.float32))
    assert chosen_strength(z, noise, 2) <= 0.001 < 0.1 <= chosen_strength(z, clear, 2)


def swept(model: Any, x: Floats, feature: int) -> Floats:
    """Raw answers [rows, steps] while one feature rises."""
    return np.stack([model.raw(np.where(np.arange(x.shape[1]) == feature, np.float32(at), x))[:, 0]
                     for at in np.linspace(-4, 4, 41)], 1)  # fmt: skip


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("kind", ["linear", "trees", "forest"])
@pytest.mark.parametrize("seed", range(3))
def test_directions_hold(classes: int, kind: str, seed: int) -> None:
    rows, held_out = rows_of(classes, 1500, seed), rows_of(classes, 300, seed=seed + 50)
    wanted = [-1, 1, 0, 0, 0, 1]  # the first goes against what the data say
    fits = {
        "linear": lambda d: fit_linear(rows, classes, LinearSection(strength=1.0), d),
        "trees": lambda d: fit_trees(rows, held_out, classes, QUICK, d, 0),
        "forest": lambda d: fit_forest(rows, classes, ForestSection(), d, 0),
    }
    held, free = fits[kind](wanted), fits[kind](FREE)
    for feature, direction in ((0, -1), (1, 1), (5, 1)):
        assert (np.diff(swept(held, rows.x[:200], feature)) * direction >= -1e-12).all()
    assert (np.diff(swept(free, rows.x[:200], 0)) > 0).any()
    assert swept(held, rows.x[:200], 1).std(1).max() > 0  # what goes the right way is still used


@pytest.mark.parametrize("kind", ["linear", "trees", "forest"])
def test_heavy_rows_count_as_several(kind: str) -> None:
    rows = rows_of(2, 500)
    heavy = np.where(rows.y == 1, 4.0, 1.0).astype(np.float32)
    fits = {
        "linear": lambda r: fit_linear(r, 2, LinearSection(strength=1.0), FREE),
        "trees": lambda r: fit_trees(r, r, 2, QUICK, FREE, 0),
        "forest": lambda r: fit_forest(r, 2, ForestSection(), FREE, 0),
    }
    plain, weighed = (fits[kind](Arrays(rows.x, rows.y, weight)).raw(rows.x) for weight in (rows.weight, heavy))
    assert (weighed - plain).mean() == pytest.approx(np.log(4), abs=0.5 if kind != "forest" else 0.9)
    if kind == "linear":
        again = rows.take(np.repeat(np.arange(500), heavy.astype(int)))
        shift = fit_linear(again, 2, LinearSection(strength=1.0), FREE).raw(rows.x)
        assert np.corrcoef(shift[:, 0], weighed[:, 0])[0, 1] > 0.999


@pytest.mark.parametrize("kind", ["linear", "trees", "forest"])
def test_one_event_in_200_is_found(kind: str) -> None:
    rng = np.random.default_rng(0)

    def drawn(rows: int) -> Arrays:
        y = (rng.random(rows) < 0.005).astype(np.int64)
        x = rng.normal(size=(rows, 5)) + 1.5 * y[:, None] * (np.arange(5) < 2)
        return Arrays(x.astype(np.float32), y, np.ones(rows, np.float32))

    train, valid, test = drawn(8000), drawn(3000), drawn(20_000)
    free = [0] * 5
    model: Any = {
        "linear": lambda: fit_linear(train, 2, LinearSection(), free),
        "trees": lambda: fit_trees(train, valid, 2, TreesSection(), free, 0),
        "forest": lambda: fit_forest(train, 2, ForestSection(), free, 0),
    }[kind]()
    said = model.raw(test.x)[:, 0]
    assert roc_auc(test.y == 1, said) > (0.9 if kind == "linear" else 0.8)
    assert np.median(said) < -4


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["trees", "forest"])
def test_a_class_of_which_no_row_was_seen_is_unlikely_and_not_impossible(classes: int, kind: str) -> None:
    rows = rows_of(2, 300)
    seen = Arrays(rows.x, np.minimum(rows.y, classes - 2), rows.weight)
    said = fit_trees(seen, seen, classes, QUICK, FREE, 0) if kind == "trees" else fit_forest(
        seen, classes, ForestSection(), FREE, 0)  # fmt: skip
    raw = said.raw(rows.x)
    last = raw[:, -1] if classes == 2 else raw[:, -1] - np.log(np.exp(raw[:, :-1]).sum(1))
    assert (last < -4).all() and (last > -9).all()


def test_the_same_seed_gives_the_same_trees_and_another_gives_others() -> None:
    rows = rows_of(2)
    one, same, other = (fit_trees(rows, rows, 2, QUICK, FREE, seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one.tensors().values(), same.tensors().values(), strict=True))
    assert (one.raw(rows.x) != other.raw(rows.x)).any()


def test_parameters_hold_for_few_rows() -> None:
    assert trees.parameters(2, TreesSection(), [], 0, 12)["min_data_in_leaf"] == 3
    assert forest.parameters(2, ForestSection(), [], 0, 1)["min_data_in_leaf"] == 1
    assert "monotone_constraints" not in trees.common(3, [1, 0], 0)
    assert trees.common(3, [], 0)["num_class"] == 3


def test_one_row_answers_as_it_does_among_others() -> None:
    rows = rows_of(3, 300)
    model = Blend([fit_trees(rows, rows, 3, QUICK, FREE, 0), fit_forest(rows, 3, ForestSection(), FREE, 0)], [0.7, 0.3])
    together = model.raw(rows.x)
    for place in range(0, 300, 17):
        assert (model.raw(rows.x[place : place + 1])[0] == together[place]).all()
    assert model.raw(rows.x[:0]).shape == (0, 3)


def test_a_blend_is_rebuilt_from_its_tensors() -> None:
    rows = rows_of(2, 300)
    linear = fit_linear(rows, 2, LinearSection(), FREE)
    model = Blend([linear, fit_trees(rows, rows, 2, QUICK, FREE, 0)], [0.25, 0.75])
    again = rebuilt(model.about(), model.tensors())
    assert (again.raw(rows.x) == model.raw(rows.x)).all()


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_the_blend_is_never_worse_than_the_best_kind(classes: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=500) if not classes else rng.integers(0, classes, 500)
    right = truth[:, None] * 1.0 if classes < 3 else np.eye(3)[truth] * 3
    answers = {
        "good": right + rng.normal(size=right.shape),
        "other": right + rng.normal(size=right.shape),
        "noise": rng.normal(size=right.shape) * 5,
    }
    weight = np.ones(500)
    shares = chosen_weights(answers, truth, weight, classes)
    assert sum(shares.values()) == pytest.approx(1)
    blended = sum(share * answers[kind] for kind, share in shares.items())
    alone = {kind: loss(values, truth, weight, classes) for kind, values in answers.items()}
    assert loss(np.asarray(blended), truth, weight, classes) < min(alone.values())
    assert shares["noise"] < min(shares["good"], shares["other"])
