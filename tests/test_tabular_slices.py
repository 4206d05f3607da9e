"""Figures told apart by groups: which groups there are, and how far they lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.tasks.tabular import slices
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import TabularSection
from llmops.tasks.tabular.importance import importance
from llmops.tasks.tabular.slices import FEWEST, Group, groups_of

CATEGORY, NUMBER = (kind_of(FieldSection(kind=kind)) for kind in ("category", "number"))


def objects(values: Any) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def test_groups_of_a_category_are_its_commonest_values_and_the_missing_ones() -> None:
    column = objects(["a"] * 50 + ["b"] * 90 + ["few"] * (FEWEST - 1) + [None] * 40)
    groups = {group.name: group.rows for group in groups_of(CATEGORY, column)}
    assert list(groups) == ["b", "a", "(missing)"]
    assert all((column[rows] == name).all() for name, rows in groups.items() if name != "(missing)")
    assert all(value is None for value in column[groups["(missing)"]])


def test_a_value_called_None_is_not_the_missing_one() -> None:
    groups = {group.name: len(group.rows) for group in groups_of(CATEGORY, objects(["None"] * 40 + [None] * 50))}
    assert groups == {"None": 40, "(missing)": 50}


def test_groups_of_a_number_are_bands_and_the_missing_ones() -> None:
    column = np.concatenate([np.arange(400.0), np.full(60, np.nan)])
    groups = groups_of(NUMBER, column)
    assert [len(group.rows) for group in groups] == [100, 100, 100, 100, 60]
    assert groups[0].name.startswith("0 to ") and groups[3].name.endswith(" to 399")
    assert np.isnan(column[groups[-1].rows]).all()
    together = np.concatenate([group.rows for group in groups])
    assert sorted(together.tolist()) == list(range(460))


def test_few_different_numbers_are_groups_by_themselves() -> None:
    groups = groups_of(NUMBER, np.array([0.0] * 60 + [1.0] * 40 + [np.nan] * 10))
    assert [(group.name, len(group.rows)) for group in groups] == [("0.0", 60), ("1.0", 40)]


@pytest.mark.parametrize("column", [np.full(50, np.nan), np.zeros(0), np.full(40, 2.0)])
def test_columns_without_differences_have_one_group_at_most(column: Any) -> None:
    assert len(groups_of(NUMBER, column)) <= 1


def test_there_are_never_too_many_groups() -> None:
    column = objects([f"v{n % 40}" for n in range(40 * FEWEST)])
    assert len(groups_of(CATEGORY, column)) == slices.GROUPS


def test_gaps_are_the_largest_differences() -> None:
    event = np.array([True, False] * 150)
    alarm = np.zeros(300, bool)
    groups = [Group("a", np.arange(0, 100)), Group("b", np.arange(100, 200)), Group("c", np.arange(200, 300))]
    alarm[np.arange(0, 100, 2)[:40]] = True  # a: 40 of 50 events are found, 40 of 100 are alarms
    alarm[np.arange(100, 200, 2)[:10]] = True  # b: 10 of 50
    alarm[np.arange(200, 300)[:60]] = True  # c: 30 of 50, 60 of 100
    found = slices.gaps({"column": groups}, event, alarm)
    assert found == pytest.approx({"true_positive_rate_gap": 0.6, "selection_rate_gap": 0.5})
    both = slices.gaps({"column": groups[:2], "other": groups[1:]}, event, alarm)
    assert both == pytest.approx({"true_positive_rate_gap": 0.6, "selection_rate_gap": 0.5})


def test_groups_with_few_events_do_not_count_for_gaps() -> None:
    event = np.zeros(200, bool)
    event[:60] = event[100:110] = True
    groups = {"column": [Group("a", np.arange(100)), Group("b", np.arange(100, 200))]}
    found = slices.gaps(groups, event, event)
    assert found["true_positive_rate_gap"] is None
    assert found["selection_rate_gap"] == pytest.approx(0.5)
    assert slices.gaps({"column": groups["column"][:1]}, event, event)["selection_rate_gap"] is None


def test_tables_tell_every_group() -> None:
    rng = np.random.default_rng(0)
    column = objects(list(rng.choice(["f", "m"], 400)))
    groups = groups_of(CATEGORY, column)
    event, score = rng.random(400) < 0.4, rng.random(400)
    table = slices.of_events("sex", groups, event, score, score > 0.5)
    assert [row[0] for row in table.rows] == [group.name for group in groups]
    assert table.rows[0][1] == len(groups[0].rows)
    assert len(table.columns) == len(table.rows[0])
    right = slices.of_classes("sex", groups, score > 0.5)
    assert str(right.rows[0][2]).startswith(f"{(score > 0.5)[groups[0].rows].mean():.3g} (")
    errors = slices.of_numbers("sex", groups, score - 0.5, score < 0.9)
    assert errors.rows[1][3] == f"{(score - 0.5)[groups[1].rows].mean():.4g}"


def test_a_group_without_events_has_a_dash() -> None:
    table = slices.of_events("c", [Group("a", np.arange(40))], np.zeros(40, bool), np.ones(40), np.ones(40, bool))
    assert table.rows[0][4] == "-"


def test_what_the_answer_hangs_on_is_important_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 4)).astype(np.float32)
    truth = (x[:, 1] + 0.5 * x[:, 2] > 0).astype(np.int64)
    section = TabularSection.model_validate({"target": "y", "fields": {"a": "number", "b": "number", "c": "number"}})
    rows = Arrays(x, truth, np.ones(1000, np.float32))
    table = importance(section, lambda x: x[:, 1:2] + 0.5 * x[:, 2:3], rows, ["a", "b", "c"], np.array([0, 1, 2, 0]), 2)
    told = {row[0]: row[1] for row in table.rows}
    assert [row[0] for row in table.rows] == ["b", "c", "a"]
    assert told["a"] == 0 and told["b"] > 0.25 > told["c"] > 0.05


def test_less_error_is_better_where_a_number_is_predicted() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2)).astype(np.float32)
    section = TabularSection.model_validate({"target": "y", "predict": "number", "fields": {"a": "number"}})
    rows = Arrays(x, x[:, 0].astype(float), np.ones(500, np.float32))
    table = importance(section, lambda x: x[:, :1].astype(float), rows, ["a", "b"], np.array([0, 1]), 0)
    assert table.rows[0][0] == "a" and table.rows[0][1] == pytest.approx(1.4, abs=0.2)
    assert table.rows[1][1] == 0
