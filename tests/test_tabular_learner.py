"""The learner of tables: the same files every time, whatever was killed in between; folds and kinds by row counts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmops.core.artifact import tree_digest
from llmops.core.errors import DataError, LlmopsError
from llmops.fields.rows import Columned
from llmops.tasks.ranking import roc_auc
from llmops.tasks.tabular import folds as folding
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.baseline import score_dataset
from llmops.tasks.tabular.calibration import apply
from llmops.tasks.tabular.config import TabularSection, TabularTrainSection
from llmops.tasks.tabular.encoder import TabularEncoder
from llmops.tasks.tabular.folds import folds_of
from llmops.tasks.tabular.learner import TabularLearner
from llmops.tasks.tabular.probe import probe
from tests.rooms import FORESEEN, FakeRoom

FIELDS = {"a": "number", "b": {"kind": "number", "monotone": "increasing"}, "c": "category", "d": "category"}
SECTIONS = {
    2: TabularSection.model_validate({"target": "y", "fields": FIELDS}),
    3: TabularSection.model_validate({"target": "y", "fields": FIELDS, "metric": "log_loss"}),
    0: TabularSection.model_validate({"target": "y", "predict": "number", "fields": FIELDS}),
}
SMALL: dict[str, Any] = {
    "trees": {"rounds": 40, "patience": 10},
    "forest": {"trees": 4},
    "network": {"epochs": 2, "width": 8, "members": 2, "layers": 1},
    "linear": {"strength": 0.3},
}
QUICK = TabularTrainSection.model_validate({"members": ["linear", "trees", "forest"], "folds": 3, **SMALL})
ALL = TabularTrainSection.model_validate({"members": ["linear", "trees", "network"], "folds": 2, **SMALL})


def rows_of(rows: int, seed: int, classes: int) -> Columned:
    """Two numbers with gaps, a category of few values and one of many; they all say something."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    c, d = rng.integers(0, 4, rows), rng.integers(0, 30, rows)
    pull = a * (c > 1) + b + (d % 3 == 0) + 0.7 * rng.normal(size=rows)
    table = pa.table({
        "a": pa.array(np.where(rng.random(rows) < 0.1, np.nan, a), from_pandas=True), "b": pa.array(b),
        "c": pa.array([f"c{n}" for n in c]), "d": pa.array([f"d{n}" for n in d]),
    })  # fmt: skip
    cuts = {0: [], 2: [0.9], 3: [-0.5, 0.9]}[classes]
    label = pa.array(pull) if not classes else pa.array([f"k{n}" for n in np.searchsorted(cuts, pull)])
    return Columned(table).with_values("label", label)


def dataset_in(folder: Path, classes: int = 2, rows: int = 500) -> Path:
    splits = {name: rows_of(n, seed, classes) for seed, (name, n) in enumerate(
        {"train": rows, "valid": 200, "test": 600}.items())}  # fmt: skip
    TabularEncoder(SECTIONS[classes], QUICK).prepare(splits, folder)
    return folder


@pytest.fixture(scope="module", params=[2, 3, 0])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    return request.param, dataset_in(tmp_path_factory.mktemp("tables") / "dataset", request.param)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset_in(tmp_path_factory.mktemp("events") / "dataset")


def trained(
    dataset: Path, folder: Path, classes: int = 2, settings: TabularTrainSection = QUICK, seed: int = 0, **more: Any
) -> tuple[TabularLearner, dict[str, Any]]:
    learner = TabularLearner(SECTIONS[classes], settings, seed)
    found = learner.train(dataset, folder / "work", FakeRoom(folder), **more)
    learner.save(folder / "model")
    return learner, found


def test_training_learns_and_tells_it_on_rows_it_never_saw(dataset: tuple[int, Path], tmp_path: Path) -> None:
    classes, place = dataset
    learner, found = trained(place, tmp_path, classes)
    test, raw = Arrays.read(place, "test"), learner.predict(place, "test")
    assert len(found["history"]) == 3 and found["best_epoch"] == 3
    assert raw.shape == (600, 3 if classes == 3 else 1) and raw.dtype == np.float64
    name = SECTIONS[classes].metric_name
    if classes == 2:
        assert roc_auc(test.y == 1, raw[:, 0]) > 0.82
        said = apply(raw, learner.settled["calibration"])[:, 1]
        assert said.mean() == pytest.approx(test.y.mean(), abs=0.06)
        assert found["metrics"][name] == pytest.approx(roc_auc(test.y == 1, raw[:, 0]), abs=0.06)
    elif classes == 3:
        assert (raw.argmax(1) == test.y).mean() > 0.6
    else:
        assert np.sqrt(np.mean((raw[:, 0] - test.y) ** 2)) == pytest.approx(found["metrics"][name], rel=0.15)
        assert found["metrics"]["interval_coverage"] == pytest.approx(0.9, abs=0.02)
    base = score_dataset(SECTIONS[classes], place)
    assert set(base) == {"valid", "test"} and all(value is not None for value in base.values())
    assert {"seconds", "rows_per_s", "spent", "peak_memory_mb", "parameters"} <= set(found)
    assert found["parameters"] == sum(values.size for values in learner.trained().tensors().values())


def test_what_is_saved_answers_as_what_was_trained(dataset: tuple[int, Path], tmp_path: Path) -> None:
    classes, place = dataset
    settings = ALL.model_copy(update={"folds": 1})
    learner, _ = trained(place, tmp_path, classes, settings)
    again = TabularLearner(SECTIONS[classes], TabularTrainSection(), 7)
    again.load(tmp_path / "model")
    assert (again.predict(place, "test") == learner.predict(place, "test")).all()
    assert again.settings == settings and again.settled == learner.settled
    again.save(tmp_path / "again")
    assert tree_digest(tmp_path / "again") == tree_digest(tmp_path / "model")


def test_what_is_saved_is_exported_as_what_was_trained(events: Path, tmp_path: Path) -> None:
    learner, _ = trained(events, tmp_path)
    again = TabularLearner(SECTIONS[2], TabularTrainSection(), 7)
    again.load(tmp_path / "model")
    assert [path.name for path in again.export(tmp_path / "a")] == [p.name for p in learner.export(tmp_path / "b")]
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")


def test_training_twice_gives_identical_files_and_another_seed_others(events: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        trained(events, tmp_path / name, settings=ALL, seed=seed)
    assert tree_digest(tmp_path / "one/model") == tree_digest(tmp_path / "two/model")
    assert tree_digest(tmp_path / "one/model") != tree_digest(tmp_path / "other/model")


class Cut(Exception):
    """A stand-in for a kill."""


def cut_after(parts: int) -> Callable[[folding.PartMaker, Any, Any, Any, Any], Any]:
    """`PartMaker.fit` that is cut when so many parts were made."""
    fit, done = folding.PartMaker.fit, []

    def fitting(*args: Any) -> Any:
        if len(done) == parts:
            raise Cut
        done.append(args[1].name)
        return fit(*args)

    return fitting


@pytest.mark.parametrize("parts", [1, 4, 5])
def test_a_training_that_was_cut_gives_the_same_model(
    parts: int, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(events, tmp_path / "whole", settings=ALL)
    with monkeypatch.context() as patched:
        patched.setattr(folding.PartMaker, "fit", cut_after(parts))
        with pytest.raises(Cut):
            trained(events, tmp_path / "cut", settings=ALL)
    made: list[str] = []
    fit = folding.PartMaker.fit

    def noted(self: folding.PartMaker, part: folding.Part, *rest: Any) -> Any:
        made.append(part.name)
        return fit(self, part, *rest)

    monkeypatch.setattr(folding.PartMaker, "fit", noted)
    trained(events, tmp_path / "cut", settings=ALL)
    assert len(made) == 6 - parts  # what was done before is taken up
    assert tree_digest(tmp_path / "cut/model") == tree_digest(tmp_path / "whole/model")


def test_a_listener_that_raises_leaves_the_next_training_whole(events: Path, tmp_path: Path) -> None:
    def listener(epoch: int, row: dict[str, float]) -> bool:
        raise Cut

    trained(events, tmp_path / "whole")
    with pytest.raises(Cut):
        trained(events, tmp_path / "cut", listener=listener)
    trained(events, tmp_path / "cut")
    assert tree_digest(tmp_path / "cut/model") == tree_digest(tmp_path / "whole/model")


KILLED = """
import sys
from pathlib import Path
from tests.rooms import FakeRoom
from tests.test_tabular_learner import SECTIONS, ALL, TabularLearner
folder = Path(sys.argv[2])
TabularLearner(SECTIONS[2], ALL, 0).train(Path(sys.argv[1]), folder / "work", FakeRoom(folder))
"""


def test_a_training_that_was_killed_gives_the_same_model(events: Path, tmp_path: Path) -> None:
    trained(events, tmp_path / "whole", settings=ALL)
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(events), str(tmp_path / "cut")]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "cut/work/trees-0").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "cut/work/trees-0").exists()
    trained(events, tmp_path / "cut", settings=ALL)
    assert tree_digest(tmp_path / "cut/model") == tree_digest(tmp_path / "whole/model")


def test_torn_and_foreign_parts_are_made_anew(events: Path, tmp_path: Path) -> None:
    trained(events, tmp_path / "whole")
    trained(events, tmp_path / "torn")
    shutil.rmtree(tmp_path / "torn/model")
    parts = sorted((tmp_path / "torn/work").iterdir())
    (parts[0] / "part.safetensors").write_bytes(b"torn")
    (parts[1] / "about.json").write_text("{")
    (parts[2] / "part.safetensors").unlink()
    trained(events, tmp_path / "torn")
    assert tree_digest(tmp_path / "torn/model") == tree_digest(tmp_path / "whole/model")
    trained(events, tmp_path / "torn", seed=3)
    trained(events, tmp_path / "third", seed=3)
    assert tree_digest(tmp_path / "torn/model") == tree_digest(tmp_path / "third/model")


def test_other_rows_take_up_no_parts(events: Path, tmp_path: Path) -> None:
    trained(events, tmp_path / "a")
    other = dataset_in(tmp_path / "other", rows=400)
    trained(other, tmp_path / "a")
    trained(other, tmp_path / "b")
    assert tree_digest(tmp_path / "a/model") == tree_digest(tmp_path / "b/model")


@pytest.mark.parametrize("folds", [1, 3])
def test_a_listener_ends_training_early_with_a_model_that_answers(folds: int, events: Path, tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"folds": folds})
    learner, found = trained(events, tmp_path, settings=settings, listener=lambda epoch, row: True)
    assert len(found["history"]) == 2
    assert roc_auc(Arrays.read(events, "test").y == 1, learner.predict(events, "test")[:, 0]) > 0.7


@pytest.mark.parametrize("model", ["linear", "trees", "forest", "network"])
def test_each_kind_alone(model: str, events: Path, tmp_path: Path) -> None:
    settings = TabularTrainSection.model_validate({"model": model, "folds": 2, **SMALL})
    learner, _ = trained(events, tmp_path, settings=settings)
    assert {one.kind for one in learner.trained().members} == {"trees" if model == "forest" else model}
    assert len(learner.trained().members) == 2
    assert roc_auc(Arrays.read(events, "test").y == 1, learner.predict(events, "test")[:, 0]) > 0.65


@pytest.mark.parametrize(
    ("rows", "folds", "kinds"),
    [
        (100, 8, {"linear", "trees", "network", "forest"}),
        (4_999, 8, {"linear", "trees", "network", "forest"}),
        (5_000, 5, {"linear", "trees", "network"}),
        (19_999, 5, {"linear", "trees", "network"}),
        (20_000, 1, {"linear", "trees"}),
        (1_000_000, 1, {"linear", "trees"}),
    ],
)
def test_folds_and_kinds_go_by_the_rows(rows: int, folds: int, kinds: set[str]) -> None:
    settings = TabularTrainSection()
    assert folds_of(settings, rows) == folds
    assert set(TabularLearner(SECTIONS[2], settings, 0).kinds(rows)) == kinds


def test_folds_and_kinds_as_the_config_says() -> None:
    asked = TabularTrainSection.model_validate({"folds": 10, "members": ["trees", "linear", "trees"]})
    assert folds_of(asked, 100_000) == 10 and folds_of(asked, 9) == 4 and folds_of(asked, 1) == 1
    assert TabularLearner(SECTIONS[2], asked, 0).kinds(10) == ["trees", "linear"]
    alone = TabularTrainSection(model="forest")
    assert TabularLearner(SECTIONS[2], alone, 0).kinds(10) == ["forest"]


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_each_part_has_its_share_of_every_class(classes: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(3, 240, p=[0.05, 0.25, 0.7]) if classes else rng.normal(size=240)
    part = Arrays(np.zeros((240, 1)), y, np.ones(240)).parts(8, classes, 0)
    assert np.bincount(part).tolist() == [30] * 8
    if classes:
        for number in range(3):
            shares = np.bincount(part[y == number], minlength=8)
            assert shares.max() - shares.min() <= 1


def test_balanced_classes_find_more_events_and_keep_honest_probabilities(tmp_path: Path) -> None:
    """One event in 20: balanced weights lift raw answers, and calibration takes that back."""
    rare = {}
    for seed, (name, n) in enumerate({"train": 1500, "valid": 800, "test": 3000}.items()):
        rows = rows_of(n, seed, 2)
        b = np.asarray(rows.table["b"])
        event = b + 0.5 * np.random.default_rng(seed).normal(size=n) > 1.9
        rare[name] = rows.with_values("label", pa.array(np.where(event, "yes", "no")))
    TabularEncoder(SECTIONS[2], QUICK).prepare(rare, tmp_path / "dataset")
    raw, mean = {}, {}
    test = Arrays.read(tmp_path / "dataset", "test")
    for weights in ("none", "balanced"):
        settings = QUICK.model_copy(update={"class_weights": weights, "folds": 2})
        learner, found = trained(tmp_path / "dataset", tmp_path / weights, settings=settings)
        raw[weights] = learner.predict(tmp_path / "dataset", "test")
        mean[weights] = apply(raw[weights], learner.settled["calibration"])[:, 1].mean()
        assert found["metrics"]["calibration_error"] < 0.02
        assert roc_auc(test.y == 1, raw[weights][:, 0]) > 0.9
    assert np.median(raw["balanced"]) > np.median(raw["none"]) + 0.3
    assert mean["balanced"] == pytest.approx(test.y.mean(), abs=0.02)
    assert mean["none"] == pytest.approx(test.y.mean(), abs=0.02)


def test_a_class_whose_rows_weigh_nothing_is_no_division_by_nothing(tmp_path: Path) -> None:
    section = SECTIONS[3].model_copy(update={"weight": "w"})
    splits = {}
    for seed, (name, n) in enumerate({"train": 300, "valid": 100, "test": 50}.items()):
        rows = rows_of(n, seed, 3)
        splits[name] = rows.with_values("weight", np.array([0.0 if v == "k2" else 1.0 for v in rows.values("label")]))
    TabularEncoder(section, QUICK).prepare(splits, tmp_path / "dataset")
    settings = QUICK.model_copy(update={"class_weights": "balanced"})
    learner = TabularLearner(section, settings, 0)
    learner.train(tmp_path / "dataset", tmp_path / "work", FakeRoom(tmp_path))
    said = apply(learner.predict(tmp_path / "dataset", "test"), learner.settled["calibration"])
    assert np.isfinite(said).all() and said[:, 2].mean() < 0.05


def test_a_class_that_training_lacks_does_no_harm(tmp_path: Path) -> None:
    splits = {name: rows_of(n, n, 3) for name, n in {"train": 300, "valid": 90, "test": 9}.items()}
    label = np.array(splits["train"].values("label"))
    keep = np.flatnonzero(label != "k2")
    splits["train"] = splits["train"].take(keep)
    TabularEncoder(SECTIONS[3], QUICK).prepare(splits, tmp_path / "dataset")
    for folds in (1, 3):
        learner, found = trained(tmp_path / "dataset", tmp_path, settings=QUICK.model_copy(update={"folds": folds}))
        assert np.isfinite(list(found["metrics"].values())).all()
        assert learner.labels == ["k0", "k1"] or learner.labels == ["k1", "k0"]


def test_a_class_of_two_rows_survives_folds(tmp_path: Path) -> None:
    splits = {name: rows_of(n, n, 3) for name, n in {"train": 300, "valid": 90, "test": 9}.items()}
    label = ["k3"] * 2 + splits["train"].values("label")[2:]
    splits["train"] = splits["train"].with_values("label", pa.array(label))
    TabularEncoder(SECTIONS[3], QUICK).prepare(splits, tmp_path / "dataset")
    _, found = trained(tmp_path / "dataset", tmp_path, 3)
    assert found["metrics"]["log_loss"] < 0.95


def test_a_model_must_be_trained_before_it_answers(events: Path) -> None:
    with pytest.raises(LlmopsError):
        TabularLearner(SECTIONS[2], QUICK, 0).predict(events, "test")


@pytest.mark.parametrize("harm", ["gone", "torn", "newer"])
def test_a_model_that_cannot_be_read_is_told(harm: str, events: Path, tmp_path: Path) -> None:
    trained(events, tmp_path, settings=QUICK.model_copy(update={"folds": 1}))
    about = tmp_path / "model/model.json"
    if harm == "gone":
        about.unlink()
    elif harm == "torn":
        (tmp_path / "model/model.safetensors").write_bytes(b"{")
    else:
        about.write_text(json.dumps({**json.loads(about.read_text()), "format": 99}))
    with pytest.raises(DataError):
        TabularLearner(SECTIONS[2], QUICK, 0).load(tmp_path / "model")


def test_a_split_that_cannot_be_read_is_told(events: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(events, tmp_path / "dataset")
    (copied / "train.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError):
        trained(copied, tmp_path)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset_in(tmp_path_factory.mktemp("larger") / "dataset", rows=3000)


def test_a_probe_foretells_and_leaves_the_learner_untrained(larger: Path, tmp_path: Path) -> None:
    settings = TabularTrainSection.model_validate({**SMALL, "folds": 2})
    learner = TabularLearner(SECTIONS[2], settings, 0)
    found = probe(learner, larger, 2.0, FakeRoom(tmp_path))
    assert set(found) == FORESEEN - {"tokens_per_s"}
    assert all(np.isfinite(value) and value > 0 for value in found.values())
    assert found["train_s"] <= found["train_s_upper"] and found["epoch_s"] == pytest.approx(found["train_s"] / 2)
    assert learner.model is None
    _, real = trained(larger, tmp_path, settings=settings)
    assert 0.2 < found["parameters"] / real["parameters"] < 5
    assert found["train_s_upper"] > real["seconds"] / 3  # generous: the machine may be busy
    assert found["train_s"] < real["seconds"] * 10


def test_a_probe_reckons_up_to_the_rows_that_the_data_set_counts(larger: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(larger, tmp_path / "dataset")
    settings = TabularTrainSection.model_validate({**SMALL, "members": ["linear", "trees"], "folds": 1})
    few = probe(TabularLearner(SECTIONS[2], settings, 0), copied, 1.0, FakeRoom(tmp_path))
    (copied / "dataset.json").write_text(json.dumps({"counts": {"train": 300_000}}))
    many = probe(TabularLearner(SECTIONS[2], settings, 0), copied, 1.0, FakeRoom(tmp_path))
    assert many["train_s"] > 10 * few["train_s"] and many["peak_memory_mb"] > few["peak_memory_mb"] + 10
