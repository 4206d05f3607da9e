"""Parity samples: what a bundle computes where it was made is checked where it serves; nobody's words are in it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.bundle.samples import FILE, apart, check, shuffled, write_samples
from llmops.core.errors import DataError
from llmops.registry import store
from llmops.serving import swap
from llmops.serving.config import ServeSection
from tests import standin

TEXTS = [f"{label} of the {word}" for label in standin.LABELS for word in ("sea", "sun", "mill", "house", "garden")] * 3


def manifest_again(folder: Path) -> None:
    fields = json.loads((folder / "bundle.json").read_bytes())
    del fields["files"], fields["format"]
    bundle_format.write(folder, fields)


def sampled(folder: Path) -> Path:
    """A bundle with its samples."""
    standin.make_bundle(folder)
    opened = Predictor.open(folder, 1)
    write_samples(folder, opened, [opened.codec.Request(text=text) for text in TEXTS], seed=3)
    manifest_again(folder)
    return folder


def broken(folder: Path) -> Path:
    """The same with other weights, whose digests are right."""
    model = onnx.load(folder / "model.onnx")
    weight = next(one for one in model.graph.initializer if one.data_type == 1 and len(one.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1].copy(), weight.name))
    onnx.save(model, folder / "model.onnx")
    manifest_again(folder)
    return folder


def test_a_bundle_computes_its_samples_again(tmp_path: Path) -> None:
    folder = sampled(tmp_path / "bundle")
    found = check(folder, Predictor.open(folder, 1).runtime)
    assert found is not None and found.right and found.apart < 1e-6 and found.slower > 0
    (folder / FILE).unlink()
    assert check(folder, None) is None


def test_no_row_stands_in_them(tmp_path: Path) -> None:
    folder = sampled(tmp_path / "bundle")
    codec = Predictor.open(folder, 1).codec
    told = load_file(folder / FILE)
    theirs = codec.encode([codec.Request(text=text) for text in TEXTS])["tokens"]
    assert told["in.mask"].all() and len(told["in.tokens"]) <= 16 and told["in.tokens"].max() <= theirs.max()
    many = np.arange(64 * 9).reshape(64, 9)
    mixed = shuffled({"x": many}, np.random.default_rng(1))["x"]
    assert {value % 9 for value in mixed[:, 4].tolist()} == {4}, "a column keeps its values"
    assert not {tuple(row) for row in mixed.tolist()} & {tuple(row) for row in many.tolist()}


@pytest.mark.parametrize(
    ("ours", "far"), [([1.0, 2.0], 0.0), ([1.0, 2.1], 0.0447), ([2.0, 1.0], 0.632), ([1.0, np.nan], np.inf)]
)
def test_how_far_outputs_are_apart(ours: list[float], far: float) -> None:
    assert apart(np.array(ours), np.array([1.0, 2.0])) == pytest.approx(far, abs=1e-3)
    assert apart(np.ones((2, 3)), np.ones((3, 2))) == np.inf
    assert apart(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0.0, "a missing value stays missing"


def test_a_server_says_when_a_model_is_wrong_or_slow_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServeSection(threads=1)
    folder = sampled(tmp_path / "bundle")
    swap.load(0, folder, settings)
    assert not caplog.records
    broken(folder)
    swap.load(0, folder, settings)
    [told] = caplog.records
    assert told.levelno == logging.WARNING and "computes something else here" in told.getMessage()
    caplog.clear()
    slow = sampled(tmp_path / "slow")
    fields: dict[str, Any] = json.loads((slow / "bundle.json").read_bytes())
    fields["lineage"]["processor"] = "another"
    (slow / "bundle.json").write_text(json.dumps(fields))
    monkeypatch.setattr(swap, "SLOW", 0.0)
    swap.load(0, slow, settings)
    [told] = caplog.records
    assert "times as long as where the bundle was made" in told.getMessage()


def test_a_champion_that_computes_something_else_here_is_not_swapped_in(tmp_path: Path) -> None:
    places = standin.places(tmp_path)
    store.promote(places.registry, sampled(tmp_path / "good"), None, "run-1")
    settings = ServeSection(threads=1)
    holder = swap.Holder(swap.load(*(store.champion(places.registry) or (0, Path())), settings))
    watcher = swap.Watcher(places.registry, holder, settings, lambda version, loaded: None)
    store.promote(places.registry, broken(sampled(tmp_path / "bad")), None, "run-2")
    with pytest.raises(DataError, match="computes something else here"):
        watcher._load()
    store.promote(places.registry, sampled(tmp_path / "fine"), None, "run-3")
    assert watcher._load().version == 3
