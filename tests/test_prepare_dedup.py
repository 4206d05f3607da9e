"""Dedup: the first of twins stays, conflicts are settled by majority, near twins are all found; augmentation."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops.fields.config import AugmentStep
from llmops.fields.hashing import normalise
from llmops.fields.neartwins import SHINGLE, NearIndex
from llmops.fields.rewording import augment
from llmops.stages.prepare.dedup import drop_exact, drop_near, settle_conflicts
from llmops.stages.prepare.rows import Dropped
from llmops.stages.prepare.synonyms import read_synonyms
from tests.batches import batched, listed
from tests.cases_data import WORDS
from tests.shared import SHARED

Row = dict[str, Any]
BANKING = SHARED / "banking77" / "train.csv"


def made(*cells: tuple[str, str]) -> list[Row]:
    return [
        {"text": text, "label": label, "key": normalise(text), "origin": f"f:{n}"}
        for n, (text, label) in enumerate(cells)
    ]


def test_the_first_of_exact_twins_stays() -> None:
    dropped = Dropped()
    kept = drop_exact(batched(made(("Where is it?", "a"), ("other", "a"), ("where IS it", "a"))), dropped)
    assert kept.votes.tolist() == [2, 1]
    assert [row["origin"] for row in listed(kept)] == ["f:0", "f:1"]
    assert [(row["reason"], row["twin"]) for row in dropped.rows] == [("duplicate", "f:0")]


def test_conflicts_go_by_majority_and_ties_go_altogether() -> None:
    dropped = Dropped()
    rows = made(("x", "a"), ("X!", "b"), ("x", "a"), ("tie", "a"), ("tie", "b"), ("clear", "c"))
    kept, conflicts = settle_conflicts(batched(rows), dropped)
    assert [row["origin"] for row in listed(kept)] == ["f:0", "f:2", "f:5"]
    assert dropped.by_reason() == {"conflicting_label": 3}
    assert [(c.labels, c.kept) for c in conflicts] == [({"a": 2, "b": 1}, "a"), ({"a": 1, "b": 1}, None)]


def near(rows: list[Row], similarity: float) -> list[str]:
    index = NearIndex(similarity, [row["key"] for row in rows])
    kept = drop_near(batched(rows), lambda row: index.offer(row["key"], row), Dropped(), lambda done: None)
    return [row["origin"] for row in listed(kept)]


def different(rows: list[Row]) -> list[Row]:
    """Without exact twins."""
    return listed(drop_exact(batched(rows), Dropped()))


def compared(rows: list[Row], similarity: float) -> Iterator[str]:
    """What comparing all with all keeps."""
    kept: list[set[str]] = []
    for row in rows:
        key = row["key"].ljust(SHINGLE, "\0")
        runs = {key[at : at + SHINGLE] for at in range(len(key) - SHINGLE + 1)}
        if not any(len(runs & other) / len(runs | other) >= similarity - 1e-9 for other in kept):
            kept.append(runs)
            yield row["origin"]


@pytest.mark.parametrize("similarity", [0.95, 0.9, 0.7, 0.5])
def test_near_twins_are_exactly_those_of_comparing_all_with_all(similarity: float) -> None:
    dice = random.Random(7)
    texts = [" ".join(dice.choices(WORDS, k=dice.randrange(1, 9))) for _ in range(250)]
    texts += [dice.choice(texts)[:-1] + dice.choice("sx. ") for _ in range(150)]
    rows = different(made(*((text, "a") for text in texts)))
    found = near(rows, similarity)
    assert found == list(compared(rows, similarity))
    assert len(found) < len(rows)


@pytest.mark.skipif(not BANKING.is_file(), reason=f"{BANKING} is not on this machine")
def test_ten_thousand_rows_take_seconds() -> None:
    with BANKING.open() as stream:
        rows = different(made(*((row["text"], row["category"]) for row in csv.DictReader(stream))))
    began = time.monotonic()
    assert len(near(rows, 0.9)) == len(rows) - 34
    assert time.monotonic() - began < 20


@pytest.mark.prove
def test_a_hundred_thousand_rows_take_less_than_two_minutes() -> None:
    dice = random.Random(3)
    vocabulary = ["".join(dice.choices("abcdefghijklmnoprstuv", k=dice.randrange(2, 9))) for _ in range(4000)]
    texts = [" ".join(dice.choices(vocabulary, k=dice.randrange(4, 14))) for _ in range(90_000)]
    texts += [text + "s" for text in texts[:10_000]]
    rows = different(made(*((text, "a") for text in texts)))
    began = time.monotonic()
    assert len(near(rows, 0.9)) == pytest.approx(90_000, rel=0.02)
    assert time.monotonic() - began < 120


TRAIN = [{**row, "id": row["origin"]} for row in made(*((" ".join(WORDS[n : n + 6]), "a") for n in range(20)))]


def augmented(
    step: AugmentStep, seed: int = 1, rows: list[Row] = TRAIN, taken: set[str] | None = None, **synonyms: Any
) -> list[Row]:
    keys = {row["key"] for row in TRAIN} if taken is None else taken
    return augment(rows, step, seed, keys, synonyms, str.strip)


def test_augmented_rows_are_new_seeded_and_know_their_origin() -> None:
    step = AugmentStep(copies=1.5)
    made_rows = augmented(step)
    assert 22 <= len(made_rows) <= 40
    assert made_rows == augmented(step) != augmented(step, seed=2)
    keys = [normalise(row["text"]) for row in made_rows]
    assert len(set(keys)) == len(keys) and not set(keys) & {row["key"] for row in TRAIN}
    assert {row["made_from"] for row in made_rows} <= {row["id"] for row in TRAIN}
    assert [row for row in augmented(step, rows=TRAIN[:10]) if row["made_from"] == "f:3"] == [
        row for row in made_rows if row["made_from"] == "f:3"
    ]


def test_no_augmented_row_equals_a_row_of_another_split() -> None:
    step = AugmentStep(swap=0, delete=0.5, typos=0)
    free = {normalise(row["text"]) for row in augmented(step, taken=set())}
    assert free and not free & {normalise(row["text"]) for row in augmented(step, taken=set(free))}


def test_synonyms_come_from_the_users_table(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("word,synonym\nparcel,package\nParcel,box\n")
    table = read_synonyms(tmp_path / "words.csv", "words.csv")
    assert table == {"parcel": ["package", "box"]}
    rows = [{"text": "where is my Parcel?", "id": "1", "origin": "f:1", "label": "a", "key": "where is my parcel"}]
    step = AugmentStep(copies=20, swap=0, delete=0, typos=0)
    texts = {row["text"] for row in augmented(step, rows=rows, taken={rows[0]["key"]}, **table)}
    assert texts == {"where is my package?", "where is my box?"}


def test_words_of_chinese_are_its_characters() -> None:
    rows = [{"text": "我的订单还没有到", "id": "1", "origin": "f:1", "label": "a", "key": "我的订单还没有到"}]
    made_rows = augmented(AugmentStep(copies=5, swap=0, delete=0.3, typos=0), rows=rows)
    assert made_rows and all(1 <= len(row["text"]) < 8 and " " not in row["text"] for row in made_rows)
