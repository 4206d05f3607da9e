"""model.onnx answers as the blend does, whatever it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import ForestSection, LinearSection, NetworkSection, TreesSection
from llmops.tasks.tabular.export import write_onnx
from llmops.tasks.tabular.fitted import Blend, Fitted
from llmops.tasks.tabular.forest import fit_forest
from llmops.tasks.tabular.linear import fit_linear
from llmops.tasks.tabular.parts import parts_of
from llmops.tasks.tabular.trees import fit_trees
from tests.rooms import FakeRoom

Floats = np.ndarray[Any, Any]
FREE = [0] * 5


def rows_of(classes: int, rows: int = 400, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    x[:, 1] = rng.integers(0, 4, rows)
    x[rng.random((rows, 5)) < 0.1] = np.nan
    pull = np.nan_to_num(x[:, 0]) + (np.nan_to_num(x[:, 1]) == 2) * 2 + np.isnan(x[:, 3]) + rng.normal(size=rows)
    cuts = np.quantile(pull, np.linspace(0, 1, max(2, classes) + 1)[1:-1])
    y = np.searchsorted(cuts, pull).astype(np.int64) if classes else pull.astype(np.float64) * 50 + 1000
    return Arrays(x, y, np.ones(rows, np.float32))


def member(kind: str, classes: int, rows: Arrays, work: Path) -> Fitted:
    if kind == "linear":
        return fit_linear(rows, classes, LinearSection(), FREE)
    if kind == "forest":
        return fit_forest(rows, classes, ForestSection(trees=6), FREE, 0)
    if kind == "network":
        from llmops.tasks.tabular.network import fit_network

        small = NetworkSection(epochs=2, width=8, members=2, layers=2)
        made: Fitted = fit_network(rows, rows, classes, small, 0, work / "fit", FakeRoom(work))
        return made
    settings = TreesSection(rounds=30, leaves=2) if kind == "stumps" else TreesSection(rounds=40, min_rows=5)
    if kind == "single leaves":
        rows = Arrays(np.zeros_like(rows.x), rows.y, rows.weight)
    return fit_trees(rows, rows, classes, settings, FREE, 0)


def session(model: Blend, folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(write_onnx(model, 5, folder / "model.onnx")), options)


def asked(runtime: onnxruntime.InferenceSession, x: Floats) -> Floats:
    inputs = {"x": x} | ({"occluded": x[:0]} if len(runtime.get_inputs()) > 1 else {})
    found: Floats = runtime.run(["raw"], inputs)[0]
    return found


def odd(rows: Arrays) -> Floats:
    """The rows with gaps everywhere, zeros of both signs and huge values."""
    rng = np.random.default_rng(3)
    x = rows.x.copy()
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.05] = -0.0
    x[0] = np.nan
    return x


KINDS = [
    ["linear"], ["trees"], ["forest"], ["stumps"], ["single leaves"], ["network"], ["linear", "trees"],
    ["trees", "single leaves"], ["linear", "single leaves"], ["linear", "trees", "forest", "network"],
]  # fmt: skip


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_the_file_answers_as_the_blend(kinds: list[str], classes: int, tmp_path: Path) -> None:
    rows = rows_of(classes)
    shares = [n + 1 for n in range(len(kinds))]
    model = Blend([member(kind, classes, rows, tmp_path) for kind in kinds], [n / sum(shares) for n in shares])
    runtime, x = session(model, tmp_path), odd(rows)
    raw = model.raw(x)
    near = 1e-5 if "network" in kinds else 1e-9
    assert asked(runtime, x) == pytest.approx(raw, rel=near, abs=near)
    assert asked(runtime, x).dtype == np.float64
    if "network" not in kinds:
        together = asked(runtime, x[:64])
        alone = np.concatenate([asked(runtime, x[place : place + 1]) for place in range(64)])
        assert (together == alone).all()  # bit for bit: no decision hangs on who else is asked


def test_a_member_without_weight_is_not_in_the_file(tmp_path: Path) -> None:
    rows = rows_of(2)
    linear, trees = member("linear", 2, rows, tmp_path), member("trees", 2, rows, tmp_path)
    runtime = session(Blend([linear, trees], [1.0, 0.0]), tmp_path)
    assert asked(runtime, rows.x) == pytest.approx(linear.raw(rows.x), abs=1e-9)
    assert (tmp_path / "model.onnx").stat().st_size < 5000


def test_several_networks_and_what_reasons_ask(tmp_path: Path) -> None:
    rows = rows_of(2)
    networks = [member("network", 2, rows.take(np.arange(n, 400, 2)), tmp_path / str(n)) for n in (0, 1)]
    trees = member("trees", 2, rows, tmp_path)
    runtime = session(Blend([*networks, trees], [0.2, 0.3, 0.5]), tmp_path)
    x, occluded = odd(rows), rows.x[:7]
    raw, features, share, without = runtime.run(None, {"x": x, "occluded": occluded})
    assert np.array_equal(features, x, equal_nan=True)
    said = 0.2 * networks[0].raw(x) + 0.3 * networks[1].raw(x)
    assert share == pytest.approx(said, abs=1e-5)
    assert without == pytest.approx(networks[1].raw(occluded), abs=1e-5)
    assert raw == pytest.approx(said + 0.5 * trees.raw(x), abs=1e-5)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_parts_are_the_blend_taken_apart(classes: int, tmp_path: Path) -> None:
    rows = rows_of(classes)
    members = [member(kind, classes, rows, tmp_path) for kind in ("linear", "trees", "forest")]
    members.append(fit_linear(rows.take(np.arange(0, 400, 3)), classes, LinearSection(), FREE))
    model = Blend(members, [0.1, 0.4, 0.2, 0.3])
    parts = parts_of(model, 5)
    assert parts.trees is not None and parts.linear is not None and not parts.networks
    assert parts.trees.raw(rows.x) + parts.linear.raw(rows.x) == pytest.approx(model.raw(rows.x), abs=1e-9)


@pytest.mark.parametrize("classes", [0, 2, 5])
def test_wide_linear_models_answer_a_row_alike_in_every_batch(classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 90)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    y = rng.integers(0, classes, 300) if classes else rng.normal(size=300)
    model = Blend([fit_linear(Arrays(x, y, np.ones(300, np.float32)), classes, LinearSection(), [0] * 90)], [1.0])
    runtime = onnxruntime.InferenceSession(str(write_onnx(model, 90, tmp_path / "model.onnx")))
    whole = asked(runtime, x)
    for size in (1, 2, 3, 7, 16, 64):
        parts = [asked(runtime, x[start : start + size]) for start in range(0, 300, size)]
        assert (np.concatenate(parts) == whole).all(), size
