"""Features: one row is encoded as it is among others, no row's target enters its own features, dates have parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.core.errors import DataError
from llmops.fields.config import FieldSection
from llmops.tasks.tabular import categories
from llmops.tasks.tabular.categories import MANY, SMOOTHING, Spread, TargetMeans
from llmops.tasks.tabular.features import FILE, Plan, fit_plan
from llmops.tasks.tabular.textvectors import TextVectors

Floats = np.ndarray[Any, Any]
FIELDS = {
    "income": FieldSection(kind="number", monotone="increasing"),
    "member": FieldSection(kind="flag"),
    "opened": FieldSection(kind="date"),
    "paid": FieldSection(kind="date"),
    "plan": FieldSection(kind="category"),
    "town": FieldSection(kind="category"),
    "remark": FieldSection(kind="text"),
    "account": FieldSection(kind="id"),
    "sex": FieldSection(kind="category", learn=False),
}


def objects(values: Any) -> Floats:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def columns_of(rows: int = 400, seed: int = 0) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)

    def gappy(values: Any) -> Floats:
        return objects([None if gone else value for value, gone in zip(values, rng.random(rows) < 0.1, strict=True)])

    def numbers(values: Floats) -> Floats:
        return np.where(rng.random(rows) < 0.1, np.nan, values)

    words = ["late", "payment", "moved", "house", "asked", "rebate", "phone", "broken"]
    return {
        "income": numbers(rng.lognormal(9, 1, rows)),
        "member": numbers((rng.random(rows) < 0.3).astype(float)),
        "opened": numbers(np.floor(rng.uniform(1e9, 1.6e9, rows))),
        "paid": numbers(np.floor(rng.uniform(1e9, 1.6e9, rows))),
        "plan": gappy([f"plan {n}" for n in rng.integers(0, 4, rows)]),
        "town": gappy([f"town {n}" for n in rng.integers(0, 40, rows)]),
        "remark": gappy([" ".join(rng.choice(words, 4)) for _ in range(rows)]),
        "sex": gappy(list(rng.choice(["f", "m"], rows))),
    }


def some(columns: Mapping[str, Floats], places: Any) -> dict[str, Floats]:
    return {name: values[places] for name, values in columns.items()}


@pytest.mark.parametrize("classes", [0, 2, 3, 7])
def test_one_row_is_encoded_as_it_is_among_others(classes: int) -> None:
    columns = columns_of()
    rng = np.random.default_rng(1)
    target = rng.integers(0, classes, 400) if classes else rng.normal(size=400)
    plan = fit_plan(columns, FIELDS, target, classes)
    fresh = columns_of(150, seed=2)
    fresh["town"][:3] = ["a new town", None, "town 1"]
    together = plan.transform(fresh)
    assert together.dtype == np.float32 and together.shape == (150, len(plan.names))
    for place in range(150):
        alone = plan.transform(some(fresh, [place]))
        assert alone.tobytes() == together[place : place + 1].tobytes()
    assert plan.transform(some(fresh, slice(0, 0))).shape == (0, len(plan.names))


def test_what_is_made_of_each_kind() -> None:
    columns = columns_of()
    plan = fit_plan(columns, FIELDS, np.arange(400) % 2, 2)
    assert {block.column: block.how for block in plan.blocks if not block.other} == {
        "income": "number", "member": "number", "opened": "date", "paid": "date", "plan": "spread", "town": "means",
        "remark": "text",
    }  # fmt: skip
    assert plan.columns == ["income", "member", "opened", "paid", "plan", "town", "remark"]
    assert plan.directions[0] == 1 and not any(plan.directions[1:])
    assert [plan.columns[n] for n in plan.column_of] == [block.column for block in plan.blocks for _ in block.names]
    assert "town: outcome" in plan.names and "days from opened to paid" in plan.names and "plan missing" in plan.names
    x = dict(zip(plan.names, plan.transform(columns).T, strict=True))
    assert np.array_equal(x["income"], columns["income"].astype(np.float32), equal_nan=True)
    assert x["days from opened to paid"] == pytest.approx((columns["paid"] - columns["opened"]) / 86400, nan_ok=True)
    gone = np.array([value is None for value in columns["plan"]])
    spread = np.stack([x[name] for name in plan.names if name.startswith("plan ")])
    assert (spread.sum(0) == 1).all() and np.array_equal(x["plan missing"] == 1, gone)


def test_left_out_columns_make_no_features() -> None:
    plan = fit_plan(columns_of(), FIELDS, np.arange(400) % 2, 2, left_out=["town", "paid"])
    assert not {"town", "paid"} & set(plan.columns) and not any("days from" in name for name in plan.names)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    columns = columns_of()
    plan = fit_plan(columns, FIELDS, np.arange(400) % 2, 2)
    plan.write(tmp_path)
    again = Plan.read(tmp_path)
    assert again == plan
    assert again.transform(columns).tobytes() == plan.transform(columns).tobytes()
    again.write(tmp_path / "..")
    assert (tmp_path / ".." / FILE).read_bytes() == (tmp_path / FILE).read_bytes()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 99, "blocks": []}', '{"format": 1, "blocks": [{}]}'])
def test_a_torn_plan_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(DataError):
        Plan.read(tmp_path)
    with pytest.raises(DataError):
        Plan.read(tmp_path / "nowhere")


@settings(max_examples=50, deadline=None)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_parts_of_a_date(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    columns = {"at": np.array([moment.timestamp(), np.nan])}
    plan = fit_plan(columns, {"at": FieldSection(kind="date")}, np.array([0, 1]), 2)
    parts, gone = plan.transform(columns)
    assert parts[1:].tolist() == [moment.month, moment.weekday(), moment.hour]
    assert parts[0] == np.float32(moment.timestamp() / 86400)
    assert np.isnan(gone).all()


def test_huge_numbers_stay_finite() -> None:
    columns = {"n": np.array([1e300, -1e300, 1e-300, -0.0])}
    made = fit_plan(columns, {"n": FieldSection(kind="number")}, np.arange(4) % 2, 2).transform(columns)
    assert np.isfinite(made).all() and made[0, 0] > 3e38 and np.signbit(made[3, 0])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_row_is_encoded_by_its_own_target(data: st.DataObject) -> None:
    """Another target of one row leaves that row's features alone, and moves those of rows with its value."""
    rows, classes = 60, data.draw(st.sampled_from([0, 2, 3]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    column = objects([None if n == 0 else f"v{n}" for n in rng.integers(0, 25, rows)])
    target = rng.integers(0, classes, rows) if classes else rng.normal(size=rows)
    plan = fit_plan({"c": column}, {"c": FieldSection(kind="category")}, target, classes)
    if plan.blocks[0].how != "means":
        return
    place = data.draw(st.integers(0, rows - 1))
    flipped = target.copy()
    flipped[place] = (target[place] + 1) % classes if classes else target[place] + 1000
    before = plan.transform_train({"c": column}, target, classes, seed=0)
    after = plan.transform_train({"c": column}, flipped, classes, seed=0)
    assert (before[place] == after[place]).all()
    alike = np.flatnonzero(column == column[place])
    assert len(alike) < 15 or (before[alike] != after[alike]).any()


def test_means_of_noise_tell_training_nothing() -> None:
    """Thousands of values with two rows each: their means must not find the rows' own outcomes."""
    rng = np.random.default_rng(0)
    column = objects([f"v{n}" for n in rng.integers(0, 2000, 4000)])
    target = rng.integers(0, 2, 4000)
    plan = fit_plan({"c": column}, {"c": FieldSection(kind="category")}, target, 2)
    told = plan.transform_train({"c": column}, target, 2, seed=0)[:, 0]
    assert abs(np.corrcoef(told, target)[0, 1]) < 0.08
    own = plan.transform({"c": column})[:, 0]
    assert np.corrcoef(own, target)[0, 1] > 0.4  # what a careless encoding would have shown


def test_means_are_smoothed_and_unseen_values_get_the_overall_one() -> None:
    column = objects(["a"] * 30 + ["b"] * 10 + [None] * 10)
    target = np.array([1] * 30 + [0] * 20)
    means = TargetMeans.fit(column, target, 2)
    out = np.zeros((4, 2), np.float32)
    means.fill(out, objects(["a", "b", None, "never"]))
    overall = 0.6
    wanted = [(30 + SMOOTHING * overall) / (30 + SMOOTHING), SMOOTHING * overall / (10 + SMOOTHING)]
    assert out[:, 0] == pytest.approx([wanted[0], wanted[1], wanted[1], overall])
    assert out[:, 1] == pytest.approx(np.log(np.array([31, 11, 11, 1]) / 51))


def test_each_training_row_is_told_the_mean_of_the_other_folds() -> None:
    rng = np.random.default_rng(3)
    column = objects([f"v{n}" for n in rng.integers(0, 6, 300)])
    target = rng.normal(size=300)
    means = TargetMeans.fit(column, target, 0)
    out = np.zeros((300, 2), np.float32)
    means.fill_apart(out, column, target, 0, seed=7)
    fold = np.random.default_rng(7).permutation(300) % categories.FOLDS
    for row in range(0, 300, 11):
        others = (column == column[row]) & (fold != fold[row])
        wanted = (target[others].sum() + SMOOTHING * target.mean()) / (others.sum() + SMOOTHING)
        assert out[row, 0] == pytest.approx(wanted, abs=1e-6)


def test_spread_keeps_frequent_values_and_knows_no_others() -> None:
    column = objects(["b"] * 300 + ["a"] * 600 + ["rare"] * 4 + [None] * 80)
    spread = Spread.fit(column)
    assert spread.values == ["a", "b"]
    out = np.zeros((5, 3), np.float32)
    spread.fill(out, objects(["a", "b", None, "rare", "new"]))
    assert out.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert Spread.fit(objects(["y", "n"] * 20)).values == ["n"]  # of two values one column is enough
    assert Spread.fit(objects([None] * 9)).values == []
    assert Spread.fit(objects(["a"] * 20 + ["b"] * 2 + ["c"] * 1 + ["d"] * 9)).values == ["a", "d", "b"]  # few rows


@pytest.mark.parametrize(("values", "how"), [(MANY, "spread"), (MANY + 1, "means")])
def test_many_values_are_means(values: int, how: str) -> None:
    column = objects([f"v{n % values}" for n in range(values * 20)])
    plan = fit_plan({"c": column}, {"c": FieldSection(kind="category")}, np.arange(values * 20) % 2, 2)
    assert plan.blocks[0].how == how


def test_of_many_classes_only_the_frequency_is_told() -> None:
    column = objects([f"v{n % 40}" for n in range(400)])
    plan = fit_plan({"c": column}, {"c": FieldSection(kind="category")}, np.arange(400) % 9, 9)
    assert plan.names == ["c: frequency"]


def test_themes_tell_topics_apart_and_do_not_hang_on_the_batch() -> None:
    rng = np.random.default_rng(0)
    topics = (["loan", "rate", "bank", "credit"], ["dog", "cat", "vet", "leash"])
    topic = rng.integers(0, 2, 300)
    texts = objects([" ".join(rng.choice(topics[n], 5)) for n in topic])
    vectors = TextVectors.fit(texts)
    out = np.zeros((300, 1 + len(vectors.directions)), np.float32)
    vectors.fill(out, texts)
    assert (out[:, 0] == 5).all()
    assert max(abs(np.corrcoef(out[:, n], topic)[0, 1]) for n in range(1, out.shape[1])) > 0.95
    gone = np.zeros((2, out.shape[1]), np.float32)
    vectors.fill(gone, objects([None, "никогда не видели"]))
    assert np.isnan(gone[0]).all() and gone[1].tolist() == [3, *[0] * (out.shape[1] - 1)]


@pytest.mark.parametrize("texts", [[None] * 9, ["one"] * 9, ["", "a", None], [f"word{n}" for n in range(9)]])
def test_texts_without_themes_tell_their_length(texts: list[str | None]) -> None:
    vectors = TextVectors.fit(objects(texts))
    assert vectors.directions == []
    out = np.zeros((len(texts), 1), np.float32)
    vectors.fill(out, objects(texts))
    assert np.array_equal(out[:, 0], [np.nan if t is None else len(t.split()) for t in texts], equal_nan=True)


def test_features_are_plain_json(tmp_path: Path) -> None:
    plan = fit_plan(columns_of(), FIELDS, np.random.default_rng(0).normal(size=400), 0)
    plan.write(tmp_path)
    json.loads((tmp_path / FILE).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
