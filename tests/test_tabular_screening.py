"""Screening and encoding: what is left out is named with its reason, what gives the answer away is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from llmops.core.errors import DataError
from llmops.fields.config import FieldSection
from llmops.fields.rows import Columned
from llmops.tasks.tabular.arrays import Arrays, read_labels
from llmops.tasks.tabular.config import TabularSection, TabularTrainSection
from llmops.tasks.tabular.encoder import TabularEncoder, contradicting
from llmops.tasks.tabular.screening import codes_of, screen, tells

Floats = np.ndarray[Any, Any]
NUMBER, CATEGORY = FieldSection(kind="number"), FieldSection(kind="category")


def objects(values: Any) -> Floats:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def screened(columns: dict[str, Floats], target: Floats, classes: int = 2) -> Any:
    fields = {name: CATEGORY if values.dtype == object else NUMBER for name, values in columns.items()}
    return screen(columns, fields, target, classes, "y")


def test_columns_that_say_nothing_are_left_out_with_the_reason() -> None:
    n = 500
    value = rng().normal(size=n)
    columns = {
        "good": value,
        "other": rng(1).lognormal(size=n),
        "again": value.copy(),
        "scaled": np.where(value == value, value * 3 + 1, 0),
        "word": objects([f"w{round(one)}" for one in value]),
        "renamed": objects([f"v{round(one)}" for one in value]),
        "constant": np.full(n, 3.0),
        "empty": np.full(n, np.nan),
        "nothing": objects([None] * n),
        "code": objects([f"id{place}" for place in range(n)]),
        "counts": np.arange(n) * 2.0 + 5,
        "reversed": -value,
        "gaps": np.where(np.arange(n) % 7 == 0, np.nan, 1.0),
    }
    found = screened(columns, np.arange(n) % 2)
    assert found.left_out == {
        "again": "says the same as good", "reversed": "says the same as good", "scaled": "says the same as good",
        "renamed": "says the same as word",
        "constant": "one value in all rows", "empty": "one value in all rows", "nothing": "one value in all rows",
        "code": "nearly every row has a value of its own", "counts": "counts the rows",
    }  # fmt: skip
    assert set(found.alone) == {"good", "other", "word", "gaps"}


def test_few_rows_are_not_called_ids() -> None:
    names = ("code", "other")
    columns = {name: objects([f"{name}{place}" for place in rng().permutation(30)]) for name in names}
    assert not screened(columns, np.arange(30) % 2).left_out


def test_numbers_without_ties_do_not_say_the_same() -> None:
    values = rng().normal(size=(100, 4))
    columns = {f"n{place}": column for place, column in enumerate(values.T)}
    columns["n4"] = np.where(np.isnan(values[:, 0]), 0, values[:, 0] + 1e-9 * values[:, 1])
    assert set(screened(columns, np.arange(100) % 2).left_out) == {"n4"}  # in the same order as the first
    gaps = np.arange(100) % 3 == 0
    apart = {"all": values[:, 0], "some": np.where(gaps, np.nan, values[:, 0])}
    assert not screened(apart, np.arange(100) % 2).left_out


def test_a_leak_in_the_middle_of_a_range_is_seen() -> None:
    value = rng().uniform(-3, 3, 3000)
    with pytest.raises(DataError, match="`leak`"):
        screened({"leak": value}, (np.abs(value) < 1).astype(np.int64))


def test_many_classes_are_screened_quickly_and_by_the_commonest() -> None:
    target = np.arange(4000) % 400
    with pytest.raises(DataError, match="`leak`"):
        screened({"leak": target * 1.0}, target, 400)
    assert screened({"noise": rng(1).normal(size=4000)}, target, 400).alone["noise"] < 0.9


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", ["number", "category", "falling", "missing"])
def test_a_column_that_gives_the_answer_away_is_refused(classes: int, kind: str) -> None:
    n = 600
    target = rng().permutation(np.arange(n) % classes) if classes else rng().normal(size=n)
    leak = {
        "number": target * 2.0 + 0.001,
        "falling": -target * 2.0,
        "category": objects([f"was {round(one, 1)}" for one in np.round(target * 4) / 4]),
        "missing": np.where(target == 1, np.nan, 5.0),
    }[kind]
    columns = {"leak": leak, "noise": rng(1).normal(size=n)}
    if (kind, classes) in (("missing", 0), ("missing", 3), ("category", 0)):  # says only part of what is asked
        screened(columns, target, classes)
        return
    with pytest.raises(DataError) as caught:
        screened(columns, target, classes)
    assert "`leak`" in str(caught.value) and "noise" not in str(caught.value)


def test_a_leak_that_is_not_learnt_from_is_allowed() -> None:
    target = np.arange(300) % 2
    columns = {"leak": target * 1.0, "noise": rng(1).normal(size=300)}
    fields = {"leak": FieldSection(kind="number", learn=False), "noise": NUMBER}
    assert set(screen(columns, fields, target, 2, "y").alone) == {"noise"}


def test_nearly_all_is_suspect_and_few_rows_may_be_chance() -> None:
    n = 2000
    target = np.arange(n) % 2
    found = screened({"near": target + 0.4 * rng().normal(size=n)}, target)
    assert found.suspects == ["near"]
    few = np.arange(40) % 2
    assert screened({"leak": few * 1.0}, few).alone["leak"] == 1.0


def test_what_a_column_tells_is_its_area() -> None:
    dice = rng()
    target = dice.integers(0, 2, 800)
    score = target + 1.5 * dice.normal(size=800)
    assert tells(score, target, 2) == pytest.approx(roc_auc_score(target, score), abs=1e-9)
    assert tells(-score, target, 2) == pytest.approx(roc_auc_score(target, score), abs=1e-9)
    many = objects([f"v{n}" for n in dice.integers(0, 400, 800)])
    assert tells(many, target, 2) < 0.6  # its own outcome tells a value nothing


def test_codes_of_numbers_rise_and_those_of_words_turn_up_with_all_gaps_alike() -> None:
    assert codes_of(np.array([3.0, np.nan, 1.0, np.nan, 3.0])).tolist() == [1, 2, 0, 2, 1]
    assert codes_of(objects(["b", None, "a", None, "b"])).tolist() == [0, 1, 2, 1, 0]
    assert codes_of(np.array([0.0, -0.0, np.nan])).tolist() == [0, 0, 1]
    assert codes_of(np.zeros(0)).tolist() == codes_of(objects([])).tolist() == []


def test_twins_with_another_outcome_are_counted() -> None:
    columns = {
        "n": np.array([1.0, 1.0, np.nan, np.nan, 0.0, -0.0, 7.0]),
        "c": objects(["a", "a", None, None, "b", "b", "None"]),
    }
    assert contradicting(columns, np.array([0, 1, 0, 0, 1, 0, 1])) == 4
    assert contradicting({"c": objects([None, "None", "nan"])}, np.array([0, 1, 0])) == 0


def table(n: int = 400, seed: int = 0, **more: Any) -> Columned:
    dice = np.random.default_rng(seed)
    value = dice.normal(size=n)
    label = np.where(value + dice.normal(size=n) > 0.8, "yes", "no")
    kind = pa.array([f"k{m}" if m else None for m in dice.integers(0, 4, n)])
    return Columned(pa.table({"n": pa.array(value), "k": kind, **more})).with_values("label", pa.array(label))


SECTION = TabularSection.model_validate({"target": "y", "fields": {"n": "number", "k": "category"}})


def encoded(out: Path, section: TabularSection = SECTION, **splits: Columned) -> dict[str, Any]:
    rows = {"train": table(), "valid": table(80, 1), "test": table(80, 2), **splits}
    return TabularEncoder(section, TabularTrainSection()).prepare(rows, out)


def test_prepare_writes_what_models_read(tmp_path: Path) -> None:
    found = encoded(tmp_path)
    train = Arrays.read(tmp_path, "train")
    assert train.x.shape == (400, found["numbers"]["features"]) and train.weight.tolist() == [1.0] * 400
    assert read_labels(tmp_path) == ["no", "yes"]  # the rarer one is the event
    assert set(json.loads((tmp_path / "known.json").read_text())) == {"n", "k"}
    assert train.y.mean() < 0.5
    again = tmp_path / "again"
    encoded(again)
    for name in ("train.safetensors", "features.json", "known.json", "labels.json"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_prepare_lives_with_empty_splits(tmp_path: Path) -> None:
    many = pa.array([f"v{n % 50}" for n in range(400)])
    fields = {"n": "number", "k": "category", "m": "category"}
    section = TabularSection.model_validate({"target": "y", "fields": fields})
    empty = table(0, 3, m=pa.array([], pa.string()))
    encoded(tmp_path, section, train=table(m=many), valid=table(m=many), test=empty)
    assert Arrays.read(tmp_path, "test").x.shape == (0, Arrays.read(tmp_path, "train").x.shape[1])


def test_what_deserves_an_eye_is_told(tmp_path: Path) -> None:
    rare = table(300)
    label = ["yes"] * 12 + ["no"] * 288
    strange = table(80, 1).with_values("label", pa.array(["perhaps"] * 3 + ["no"] * 77))
    told = encoded(tmp_path, train=rare.with_values("label", pa.array(label)), valid=strange)["warnings"]
    assert any("only 12 training rows" in one for one in told)
    assert any("3 valid rows are of classes" in one for one in told)
    assert (Arrays.read(tmp_path, "valid").y == -1).sum() == 3


def test_the_named_event_comes_last_and_must_exist(tmp_path: Path) -> None:
    encoded(tmp_path, SECTION.model_copy(update={"positive": "no"}))
    assert read_labels(tmp_path) == ["yes", "no"]
    with pytest.raises(DataError, match="perhaps"):
        encoded(tmp_path / "b", SECTION.model_copy(update={"positive": "perhaps"}))


@pytest.mark.parametrize("label", [["no"] * 400, [f"l{n}" for n in range(400)]])
def test_targets_that_are_no_classes_are_refused(label: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        encoded(tmp_path, train=table().with_values("label", pa.array(label)))


def test_nothing_left_to_learn_from_is_refused(tmp_path: Path) -> None:
    section = TabularSection.model_validate({"target": "y", "fields": {"c": "number"}})
    flat = {split: table(60, n, c=pa.array([1.0] * 60)) for n, split in enumerate(("train", "valid", "test"))}
    with pytest.raises(DataError, match="no column is left"):
        encoded(tmp_path, section, **flat)


def test_weights_reach_the_arrays(tmp_path: Path) -> None:
    section = SECTION.model_copy(update={"weight": "w"})
    weight = np.arange(60) / 2
    splits = {split: table(60).with_values("weight", weight) for split in ("train", "valid", "test")}
    encoded(tmp_path, section, **splits)
    assert Arrays.read(tmp_path, "valid").weight.tolist() == (np.arange(60) / 2).tolist()
