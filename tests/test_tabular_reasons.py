"""Effects of columns: of trees equal to Shapley values counted out over all subsets; all kinds add up exactly."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops.tasks.tabular import treereasons
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import ForestSection, LinearSection, NetworkSection, TreesSection
from llmops.tasks.tabular.features import Block, Plan
from llmops.tasks.tabular.fitted import Blend, TreesFitted
from llmops.tasks.tabular.forest import fit_forest
from llmops.tasks.tabular.linear import fit_linear
from llmops.tasks.tabular.reasons import Reasons, write_reasons
from llmops.tasks.tabular.treereasons import TreeReasons
from llmops.tasks.tabular.trees import fit_trees
from tests.rooms import FakeRoom

Floats = np.ndarray[Any, Any]
COLUMNS = 4


def rows_of(classes: int, rows: int = 300, seed: int = 0) -> Arrays:
    """Four features, one with gaps; they act together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    x[rng.random(rows) < 0.25, 1] = np.nan
    pull = x[:, 0] * x[:, 2] + np.where(np.isnan(x[:, 1]), 1, x[:, 1]) * (x[:, 3] > 0) + 0.3 * rng.normal(size=rows)
    cuts = np.quantile(pull, np.linspace(0, 1, max(classes, 2) + 1)[1:-1])
    y = np.searchsorted(cuts, pull).astype(np.int64) if classes else pull.astype(np.float64)
    return Arrays(x, y, np.ones(rows, np.float32))


def expected(trees: TreesFitted, node: int, x: Floats, known: frozenset[int]) -> float:
    """What a tree says of a row of which only some features are known: else its training rows' way is followed."""
    feature = int(trees.feature[node])
    if feature < 0:
        return float(trees.value[node])
    left, right = int(trees.left[node]), int(trees.right[node])
    if feature in known:
        value = x[feature]
        goes = bool(trees.missing_left[node]) if np.isnan(value) else value <= trees.threshold[node]
        return expected(trees, left if goes else right, x, known)
    share = trees.cover[left] / trees.cover[node]
    return share * expected(trees, left, x, known) + (1 - share) * expected(trees, right, x, known)


def shapley(trees: TreesFitted, output: int, x: Floats) -> tuple[Floats, float]:
    """(effects [features], base) counted out over all subsets of features."""
    roots = [int(root) for root, to in zip(trees.root, trees.output, strict=True) if to == output]

    def game(known: frozenset[int]) -> float:
        return sum(expected(trees, root, x, known) for root in roots)

    subsets = [frozenset(some) for n in range(COLUMNS + 1) for some in combinations(range(COLUMNS), n)]
    told = {some: game(some) for some in subsets}
    effects = np.zeros(COLUMNS)
    for feature in range(COLUMNS):
        for some, value in told.items():
            if feature not in some:
                share = factorial(len(some)) * factorial(COLUMNS - len(some) - 1) / factorial(COLUMNS)
                effects[feature] += share * (told[some | {feature}] - value)
    return effects, told[frozenset()] + float(trees.base[output])


def grown(kind: str, classes: int) -> TreesFitted:
    rows = rows_of(classes)
    if kind == "forest":
        return fit_forest(rows, classes, ForestSection(trees=3, columns=0.8), [0] * COLUMNS, 0)
    settings = TreesSection(rounds=4, leaves=10, min_rows=5, learning_rate=0.4)
    return fit_trees(rows, rows, classes, settings, [0] * COLUMNS, 0)


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", ["trees", "forest"])
@pytest.mark.parametrize("longest", [10, 2, 0])
def test_effects_of_trees_are_shapley_values(
    classes: int, kind: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`longest`: paths up to which there are tables; longer ones are worked out row by row."""
    monkeypatch.setattr(treereasons, "LONGEST", longest)
    trees, x = grown(kind, classes), rows_of(classes, 12, seed=5).x
    for output in range(len(trees.base)):
        reasons = TreeReasons(trees, output, np.arange(COLUMNS))
        found = reasons.effects(x)
        for row, effects in zip(x, found, strict=True):
            wanted, base = shapley(trees, output, row)
            assert effects == pytest.approx(wanted, abs=2e-6 if longest else 1e-12)  # tables are float32
            assert reasons.base == pytest.approx(base, abs=1e-12)


def test_features_of_one_column_count_together() -> None:
    trees, x = grown("trees", 2), rows_of(2, 20, seed=6).x
    apart = TreeReasons(trees, 0, np.arange(COLUMNS)).effects(x)
    together = TreeReasons(trees, 0, np.array([0, 1, 0, 1])).effects(x)
    assert together == pytest.approx(np.stack([apart[:, [0, 2]].sum(1), apart[:, [1, 3]].sum(1)], 1), abs=1e-6)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_effects_add_up_to_large_trees(classes: int) -> None:
    rows = rows_of(classes, 2000)
    settings = TreesSection(rounds=120, leaves=31, depth=12, min_rows=2)
    trees = fit_trees(rows, rows, classes, settings, [0] * COLUMNS, 0)
    raw = trees.raw(rows.x[:50])
    for output in range(len(trees.base)):
        reasons = TreeReasons(trees, output, np.arange(COLUMNS))
        assert reasons.base + reasons.effects(rows.x[:50]).sum(1) == pytest.approx(raw[:, output], abs=2e-5)


def test_trees_of_one_leaf_move_nothing() -> None:
    rows = rows_of(2, 60)
    blank = Arrays(np.zeros_like(rows.x), rows.y, rows.weight)
    trees = fit_trees(blank, blank, 2, TreesSection(rounds=5), [0] * COLUMNS, 0)
    reasons = TreeReasons(trees, 0, np.arange(COLUMNS))
    assert not reasons.effects(rows.x[:3]).any()
    assert reasons.base == pytest.approx(float(trees.raw(rows.x[:1])[0, 0]))
    assert reasons.effects(rows.x[:0]).shape == (0, COLUMNS)


PLAN = Plan([Block("number", name, [name]) for name in "abcd"])


def reasons_of(model: Blend, train: Arrays, folder: Path) -> Reasons:
    centre = np.nanmean(train.x, axis=0, dtype=np.float64)
    write_reasons(model, PLAN, centre, folder)
    return Reasons.read(folder, PLAN)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_linear_effects_are_slope_times_distance(classes: int, tmp_path: Path) -> None:
    rows = rows_of(classes)
    models = [fit_linear(rows.take(np.arange(start, 300, 2)), classes, LinearSection(), [0] * 4) for start in (0, 1)]
    model = Blend(models, [0.5, 0.5])
    reasons, x = reasons_of(model, rows, tmp_path), rows.x[:40]
    for output in range(classes if classes > 2 else 1):
        found = reasons.effects(x, np.full(40, output))
        assert reasons.base[output] + found.sum(1) == pytest.approx(model.raw(x)[:, output], abs=1e-9)
        slope = sum(0.5 * one.weights[0, output] / one.scale[0] for one in models)
        assert found[:, 0] == pytest.approx(slope * (x[:, 0] - np.float32(rows.x[:, 0].mean(dtype=float))), abs=1e-6)
    centre = np.nanmean(rows.x, axis=0, dtype=np.float64).astype(np.float32)[None]
    assert reasons.base == pytest.approx(model.raw(centre)[0], abs=1e-9)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_effects_of_a_blend_with_a_network_add_up(classes: int, tmp_path: Path) -> None:
    from llmops.tasks.tabular.network import fit_network

    rows = rows_of(classes)
    small = NetworkSection(epochs=2, width=8, members=2, layers=1)
    networks: list[Any] = [
        fit_network(rows, rows, classes, small, seed, tmp_path / str(seed), FakeRoom(tmp_path)) for seed in (0, 1)
    ]
    trees = grown("trees", classes)
    model = Blend([*networks, trees, fit_linear(rows, classes, LinearSection(), [0] * 4)], [0.2, 0.3, 0.3, 0.2])
    reasons, x = reasons_of(model, rows, tmp_path), rows.x[:15]
    outputs = np.arange(15) % (classes if classes > 2 else 1)
    hidden = reasons.occluded(x)
    assert hidden.shape == (15 * 5, 4) and hidden.dtype == np.float32
    said = 0.2 * networks[0].raw(x) + 0.3 * networks[1].raw(x)
    found = reasons.effects(x, outputs) + reasons.of_networks(said, networks[1].raw(hidden), outputs)
    total = reasons.base[outputs] + found.sum(1)
    assert total == pytest.approx(model.raw(x)[np.arange(15), outputs], abs=2e-5)


def test_a_column_that_a_network_ignores_moves_nothing(tmp_path: Path) -> None:
    plan = Plan([Block("number", "a", ["a"]), Block("number", "b", ["b"])])
    reasons = Reasons(plan, {"centre": np.zeros(2, np.float32), "outputs": np.array([1]), "networks": np.array([1.0])})
    x = np.array([[2.0, 5.0]], np.float32)
    said = reasons.occluded(x)[:, :1] * 3 + 1  # a network that sees the first column alone
    found = reasons.of_networks(said[:1].astype(float), said.astype(float), np.zeros(1, int))
    assert found == pytest.approx(np.array([[6.0, 0.0]]))
