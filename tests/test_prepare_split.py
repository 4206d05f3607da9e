"""The split: growing data never moves a row, small labels reach training and validation, groups stay together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.core.errors import DataError
from llmops.stages.prepare.config import SplitStep
from llmops.stages.prepare.split import SPLITS, Splitter, moment
from tests.batches import batched, listed

Row = dict[str, Any]

TEXT = st.text("abcdefgh ", min_size=1, max_size=12)
ROWS = st.lists(
    st.tuples(TEXT, st.sampled_from("ABC"), st.sampled_from(["", "g1", "g2", "g3"])),
    max_size=40,
    unique_by=lambda r: r[0],
)
STEPS = st.sampled_from(
    [SplitStep(), SplitStep(stratify=False), SplitStep(valid=0.3, test=0.3), SplitStep(by="group", group="group")]
)


def made(cells: list[tuple[str, str, str]]) -> list[Row]:
    return [
        {"text": key, "label": label, "group": group, "origin": f"f:{n}"} for n, (key, label, group) in enumerate(cells)
    ]


def places(step: SplitStep, rows: list[Row], outside: str | None = None) -> dict[str, str]:
    splits = split_rows(Splitter(step, outside), rows)
    return {row["text"]: split for split in SPLITS for row in splits[split]}


def split_rows(splitter: Splitter, rows: list[Row]) -> dict[str, list[Row]]:
    return {split: listed(batch) for split, batch in splitter.split(batched(rows)).items()}


@given(ROWS, STEPS, st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_appended_rows_move_no_row(cells: list[tuple[str, str, str]], step: SplitStep, cut: int) -> None:
    rows = made(cells)
    before, after = places(step, rows[:cut]), places(step, rows)
    assert {key: after[key] for key in before} == before


@given(ROWS, STEPS, st.randoms(use_true_random=False), st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_no_row_enters_or_leaves_the_test_set(
    cells: list[tuple[str, str, str]], step: SplitStep, dice: Any, cut: int
) -> None:
    """Whatever is added, removed or put in another order."""
    rows = made(cells)
    before = places(step, rows[:cut])
    dice.shuffle(rows)
    after = places(step, rows)
    assert all((before[key] == "test") == (after[key] == "test") for key in before)


@given(ROWS)
@settings(deadline=None)
def test_small_labels_reach_train_and_valid(cells: list[tuple[str, str, str]]) -> None:
    splits = split_rows(Splitter(SplitStep()), made(cells))
    train, valid = (Counter(row["label"] for row in splits[split]) for split in ("train", "valid"))
    for label in "ABC":
        outside_test = train[label] + valid[label]
        assert train[label] >= 1 or outside_test == 0
        assert valid[label] >= 1 or outside_test < 3


def test_shares_hold_over_many_rows() -> None:
    rows = made([(f"row {n}", "AB"[n % 2], "") for n in range(10_000)])
    counts = {split: len(found) for split, found in split_rows(Splitter(SplitStep(valid=0.15, test=0.1)), rows).items()}
    assert counts["test"] == pytest.approx(1000, rel=0.1)
    assert counts["valid"] == pytest.approx(1500, rel=0.1)
    assert sum(counts.values()) == 10_000


def test_a_group_stays_together() -> None:
    rows = made([(f"row {n}", "AB"[n % 2], f"customer {n % 50}") for n in range(1000)])
    where = places(SplitStep(by="group", group="group"), rows)
    split_of_group: dict[str, set[str]] = {}
    for row in rows:
        split_of_group.setdefault(row["group"], set()).add(where[row["text"]])
    assert all(len(splits) == 1 for splits in split_of_group.values())
    assert {split for splits in split_of_group.values() for split in splits} == set(SPLITS)


def test_outside_rows_never_train_and_harvest_never_tests() -> None:
    rows = made([(f"row {n}", "A" if n % 2 else "none", "") for n in range(400)])
    splitter = Splitter(SplitStep(), outside="none")
    splits = split_rows(splitter, rows)
    assert {row["label"] for row in splits["train"]} == {"A"}
    assert {row["label"] for row in splits["valid"]} == {row["label"] for row in splits["test"]} == {"A", "none"}
    harvest = splitter.split_harvest(batched(made([(f"new {n}", "fresh", "") for n in range(200)])))
    assert len(harvest["test"]) == 0
    assert len(harvest["valid"]) > 5 and len(harvest["train"]) > 150


def test_by_time_the_newest_rows_test() -> None:
    rows = [
        {**row, "time": f"2026-01-{1 + n % 28:02d}"}
        for n, row in enumerate(made([(f"r{n}", "A", "") for n in range(280)]))
    ]
    splits = split_rows(Splitter(SplitStep(by="time", time="time")), rows)
    assert [len(splits[split]) for split in SPLITS] == [224, 28, 28]
    newest_train = max(row["time"] for row in splits["train"])
    assert newest_train <= min(row["time"] for row in splits["valid"])
    assert max(row["time"] for row in splits["valid"]) <= min(row["time"] for row in splits["test"])


def test_moments() -> None:
    assert moment("2026-01-31", "f:1") < moment("2026-01-31T12:00:00+00:00", "f:1")
    assert moment("12.5", "f:1") == ("number", 12.5)
    with pytest.raises(DataError, match="neither an ISO date nor a number"):
        moment("soon", "f:1")
    mixed = [
        {**row, "time": time}
        for row, time in zip(made([("a", "A", ""), ("b", "A", "")]), ["1", "2026-01-01"], strict=True)
    ]
    with pytest.raises(DataError, match="mixes dates and numbers"):
        split_rows(Splitter(SplitStep(by="time", time="time")), mixed)
