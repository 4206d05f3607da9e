"""Several labels: every form in which they come is recognised, read, settled, split and told, from init to prepare."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmops.core.errors import DataError
from llmops.core.protocols import Job
from llmops.core.report import Report, Table
from llmops.fields.rows import Listed
from llmops.project import open_project
from llmops.records.joinedlabels import find_joined
from llmops.stages.need.stage import NeedStage
from llmops.stages.prepare.batch import Batch, batch_of
from llmops.stages.prepare.config import SplitStep
from llmops.stages.prepare.labelvotes import settle_sets
from llmops.stages.prepare.rows import Dropped
from llmops.stages.prepare.split import Splitter
from llmops.stages.prepare.stage import PrepareStage
from llmops.starter import draft, write
from llmops.tasks import find
from llmops.tasks.text_classification.config import TextClassificationSection
from tests import tiny_labels
from tests.cases_data import texts
from tests.rooms import FakeRoom, places_in
from tests.tiny import TOPICS

TASK = find("text-classification")
NAMES = sorted(TOPICS)
ROWS = tiny_labels.rows(240)


def as_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def joined(separator: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        as_csv(folder / "joined.csv", ["text", "label"], [(row["text"], separator.join(row["label"])) for row in ROWS])
        return folder / "joined.csv"

    return make


def cells(form: Callable[[list[str]], str]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        as_csv(folder / "cells.csv", ["text", "tags"], [(row["text"], form(row["label"])) for row in ROWS])
        return folder / "cells.csv"

    return make


def jsonl(folder: Path) -> Path:
    (folder / "lists.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder / "lists.jsonl"


def array(folder: Path) -> Path:
    (folder / "lists.json").write_text(json.dumps(ROWS))
    return folder / "lists.json"


def parquet(folder: Path) -> Path:
    table = pa.table({"text": [row["text"] for row in ROWS], "topics": [row["label"] for row in ROWS]})
    pq.write_table(table, folder / "lists.parquet")
    return folder / "lists.parquet"


def saved(folder: Path) -> Path:
    """As `save_to_disk` leaves lists of classes: numbers, whose names stand beside the rows."""
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    features = Features({"text": Value("string"), "labels": Sequence(ClassLabel(names=NAMES))})
    told = [{"text": row["text"], "labels": [NAMES.index(label) for label in row["label"]]} for row in ROWS]
    Dataset.from_list(told, features=features).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def flags(yes: str, no: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        told = [
            (n, row["text"], *(yes if name in row["label"] else no for name in NAMES)) for n, row in enumerate(ROWS)
        ]
        as_csv(folder / "flags.csv", ["id", "text", *NAMES], told)
        return folder / "flags.csv"

    return make


FORMS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "commas": (joined(", "), {"label": "label", "separator": ","}, "taken for several labels"),
    "semicolons": (joined("; "), {"label": "label", "separator": ";"}, "taken for several labels"),
    "bars": (joined("|"), {"label": "label", "separator": "|"}, "taken for several labels"),
    "JSON in cells": (cells(json.dumps), {"label": "tags", "separator": None}, "tags holds lists of labels"),
    "Python in cells": (cells(str), {"label": "tags", "separator": None}, "tags holds lists of labels"),
    "JSONL": (jsonl, {"label": "label", "separator": None}, "label holds lists of labels"),
    "a JSON array": (array, {"label": "label", "separator": None}, "label holds lists of labels"),
    "Parquet": (parquet, {"label": "topics", "separator": None}, "topics holds lists of labels"),
    "a saved data set": (saved, {"label": "labels", "separator": None}, "labels holds lists of labels"),
    "1 and 0": (flags("1", "0"), {"label": NAMES, "separator": None}, "columns of yes and no"),
    "true and false": (flags("true", "false"), {"label": NAMES, "separator": None}, "columns of yes and no"),
    "yes and no": (flags("yes", "no"), {"label": NAMES, "separator": None}, "columns of yes and no"),
}


def run(sections: Any, root: Path, room: str = "room") -> tuple[Report, Path]:
    fake = FakeRoom(root / room)
    report = PrepareStage().run(Job("demo", sections, TASK, {}, fake, places_in(root), seed=0))
    assert Report.read(report.plain()).markdown("prepare")
    return report, fake.out


def prepared(
    root: Path, rows: Sequence[dict[str, Any]], room: str = "room", prepare: str = "", task: str = "labels: many"
) -> tuple[Report, Path]:
    """Rows with lists as a data set."""
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = root / "demo.yaml"
    config.write_text(
        f"version: 1\nproject: demo\ntask: {{name: text-classification, {task}}}\n"
        f"prepare: {{sources: [data.jsonl]{prepare and ', ' + prepare}}}\n"
        "train: {model: bag-of-words, vocabulary: 300}\n"
    )
    return run(open_project(config).sections, root, room)


def lines(out: Path, *splits: str) -> list[dict[str, Any]]:
    names = splits or ("train", "valid", "test")
    return [json.loads(line) for name in names for line in (out / f"dataset/{name}.jsonl").read_text().splitlines()]


def table(report: Report, title: str) -> Table:
    return next(one for one in report.tables if one.title.startswith(title))


@pytest.mark.parametrize("form", FORMS, ids=lambda name: name.replace(" ", "-"))
def test_every_form_is_recognised_told_and_read(tmp_path: Path, form: str) -> None:
    make, told, words = FORMS[form]
    project = open_project(write(tmp_path, make(tmp_path)))
    section: Any = project.config.task
    assert section.labels == "many"
    assert {"label": section.label, "separator": section.separator} == told
    config = next(tmp_path.glob("*.yaml")).read_text()
    assert words in config
    assert "empty: drop" in config, "rows without a label are told"
    sections = {**project.sections, "train": project.config.train.model_copy(update={"model": "bag-of-words"})}
    report, out = run(sections, tmp_path)
    assert {row["text"]: row["label"] for row in lines(out)} == {row["text"]: row["label"] for row in ROWS}
    assert report.numbers["classes"] == 3
    assert report.numbers["rows_without_label"] == sum(not row["label"] for row in ROWS)
    assert json.loads((out / "dataset/labels.json").read_text()) == NAMES


def test_card_urgent_is_no_class_of_its_own(tmp_path: Path) -> None:
    """Six cells, four labels."""
    kinds = ["card", "refund", "urgent", "parcel", "card, urgent", "refund, urgent"]
    as_csv(tmp_path / "data.csv", ["text", "label"], [(text, kinds[n % 6]) for n, text in enumerate(texts(120))])
    said = draft(tmp_path / "data.csv")
    assert "# cells such as `card, urgent` are taken for several labels: 4 labels make 6 different cells." in said
    assert "# If each cell is one label, leave out labels and separator" in said
    assert 'labels: many, separator: ","' in said

    by_hand = tmp_path / "one.yaml"
    by_hand.write_text(
        "version: 1\nproject: one\ntask: {name: text-classification}\nprepare: {sources: [data.csv]}\n"
        "train: {model: bag-of-words, vocabulary: 300}\n"
    )
    report, _ = run(open_project(by_hand).sections, tmp_path)
    [warning] = [line for line in report.warnings if "look like several" in line]
    assert "6 different ones made of 4 labels" in warning
    assert 'labels: many, separator: ","' in warning


def test_a_comma_within_a_name_is_left_alone_and_told(tmp_path: Path) -> None:
    kinds = ["Books, magazines", "Health, beauty", "Toys", "Food, drink"]
    as_csv(tmp_path / "data.csv", ["text", "label"], [(text, kinds[n % 4]) for n, text in enumerate(texts(120))])
    said = draft(tmp_path / "data.csv")
    assert "task: {name: text-classification, text: text, label: label, describe: labels}" in said
    assert '# If they are several labels, add labels: many, separator: ","' in said
    project = open_project(write(tmp_path, tmp_path / "data.csv", "shop"))
    sections = {**project.sections, "train": project.config.train.model_copy(update={"model": "bag-of-words"})}
    assert not [line for line in run(sections, tmp_path)[0].warnings if "look like several" in line]


def test_a_column_called_as_labels_are_wins_over_flags_and_one_flag_may_be_named(tmp_path: Path) -> None:
    told = [(text, NAMES[n % 3], n % 2, n // 2 % 2) for n, text in enumerate(texts(120))]
    as_csv(tmp_path / "data.csv", ["text", "topic", "new", "vip"], told)
    assert "label: topic}" in draft(tmp_path / "data.csv")
    assert "label: vip}" in draft(tmp_path / "data.csv", text="text", label="vip")


def test_of_columns_of_yes_and_no_one_that_is_called_label_is_the_label(tmp_path: Path) -> None:
    told = [(text, n % 2, n // 2 % 2) for n, text in enumerate(texts(120))]
    as_csv(tmp_path / "data.csv", ["text", "label", "has_url"], told)
    assert "text: text, label: label" in draft(tmp_path / "data.csv")
    assert "labels: many" not in draft(tmp_path / "data.csv")


def test_columns_of_yes_and_no_bear_an_odd_cell(tmp_path: Path) -> None:
    told = [(text, n % 2, n // 2 % 2, 2 if n == 7 else n // 3 % 2) for n, text in enumerate(texts(120))]
    as_csv(tmp_path / "data.csv", ["text", "a", "b", "c"], told)
    assert "label: [a, b, c], labels: many" in draft(tmp_path / "data.csv")


def test_the_separator_is_the_one_that_makes_the_fewest_labels() -> None:
    names = ["a, b", "c", "d, e", "f"]
    found = find_joined(Counter(f"{names[n % 4]}; {names[(n + n // 4 % 3 + 1) % 4]}" for n in range(60)))
    assert found is not None and (found.separator, sorted(found.labels)) == (";", sorted(names))


@pytest.mark.parametrize(
    ("counts", "several"),
    [
        ({"a": 9, "b": 9, "a;b": 1}, True),
        ({"a;b": 5, "b;c": 5, "a;c": 5, "a;b;c": 5}, True),
        ({"Berlin;Germany": 9, "Munich;Germany": 9, "Paris;France": 9}, False),
        ({"x;y": 50, "z": 50}, False),
        ({"x;y": 1, "z": 99}, None),
        ({"a": 9, "b": 9}, None),
        ({";": 9, "a;": 9, "b": 9}, None),
    ],
)
def test_parts_that_turn_up_elsewhere_are_labels(counts: dict[str, int], several: bool | None) -> None:
    found = find_joined(counts)
    assert (found and found.several) == several
    assert find_joined({}) is None


def batch(*rows: tuple[str, list[str]]) -> Batch:
    made = [{"text": text, "label": label, "origin": f"data:{at}"} for at, (text, label) in enumerate(rows)]
    return batch_of(TASK, TextClassificationSection(labels="many"), Listed(made))


def test_contradictions_are_settled_label_by_label() -> None:
    rows = batch(
        ("one", ["a", "b"]), ("one", ["a"]), ("one", ["a", "c"]), ("one", ["a", "b"]),
        ("two", ["a"]), ("two", ["b"]),
        ("three", []), ("three", ["a"]), ("three", []),
        ("four", ["c"]), ("four", ["c"]),
    )  # fmt: skip
    dropped = Dropped()
    kept, told = settle_sets(rows, dropped)
    assert [(row["text"], row["label"]) for row in kept.rows] == [
        ("one", ["a", "b"]), ("two", ["a", "b"]), ("three", []), ("four", ["c"]), ("four", ["c"]),
    ]  # fmt: skip
    assert kept.labels is not None and kept.labels.tolist() == [("a", "b"), ("a", "b"), (), ("c",), ("c",)]
    assert kept.votes.tolist() == [4, 2, 3, 1, 1]
    assert [conflict.kept for conflict in told] == ["a, b", "a, b", "(no label)"]
    assert told[0].labels == {"a, b": 2, "a": 1, "a, c": 1}
    assert dropped.by_reason() == {"conflicting_label": 6}


@pytest.mark.parametrize(
    ("trained", "corrected", "settled"),
    [
        ([["a", "b"]], ["a"], ["a"]),
        ([["a"]], [], []),
        ([["a"]], ["c"], ["c"]),
        ([["a", "b"]] * 2, ["a"], ["a", "b"]),
    ],
)
def test_a_correction_that_takes_a_label_away_wins_a_tie(
    trained: list[list[str]], corrected: list[str], settled: list[str]
) -> None:
    rows = batch(*(("one", labels) for labels in [*trained, corrected]))
    assert [row["label"] for row in settle_sets(rows, Dropped(), corrections=1)[0].rows] == [settled]


def test_twins_and_contradictions_are_told(tmp_path: Path) -> None:
    first = ROWS[0]
    more = [{"text": first["text"].upper(), "label": NAMES}, {"text": ROWS[1]["text"], "label": ROWS[1]["label"]}]
    report, out = prepared(tmp_path, [*ROWS, *more])
    assert (report.numbers["conflicting_label"], report.numbers["duplicates"]) == (1, 1)
    shown = table(report, "Texts that are labelled in several ways").rows
    assert shown[0][2] == ", ".join(NAMES), "in a tie a label stays"
    assert next(row for row in lines(out) if row["text"].lower() == first["text"])["label"] == NAMES
    assert any("labelled in several ways: 1" in line for line in report.warnings)


def placed(rows: Batch) -> dict[str, str]:
    split = Splitter(SplitStep(valid=0.2, test=0.2)).split(rows)
    return {row["text"]: name for name, part in split.items() for row in part.rows}


def test_every_label_with_three_rows_trains_and_validates() -> None:
    """Forty rare labels beside a common one: the hash alone would leave many of them without a row somewhere."""
    labels = [["common", f"rare{n % 40}"] for n in range(120)]
    split = Splitter(SplitStep(valid=0.2, test=0.2)).split(batch(*zip(texts(120), labels, strict=True)))
    counts = {name: Counter(one for row in part.rows for one in row["label"]) for name, part in split.items()}
    whole = [label for label in counts["train"] + counts["valid"] if not counts["test"][label]]
    assert len(whole) > 10
    assert all(counts["train"][label] and counts["valid"][label] for label in whole)
    assert all(counts["train"][f"rare{n}"] for n in range(40) if counts["test"][f"rare{n}"] < 3)


def test_a_label_whose_third_row_must_train_validates_later() -> None:
    """The third row of `a` outside the test set is the first of `b`, so it trains; the fourth validates for `a`."""
    found = [text for text in texts(200) if placed(batch((text, [])))[text] == "train"][:4]
    labels = [["a"], ["a"], ["a", "b"], ["a"]]
    told = placed(batch(*zip(found, labels, strict=True)))
    assert [told[text] for text in found] == ["train", "train", "train", "valid"]


def test_growing_data_moves_no_row_to_or_from_the_test_set() -> None:
    made = tiny_labels.rows(300, seed=8)
    pairs = [(row["text"], row["label"]) for row in made]
    small, large = placed(batch(*pairs[:200])), placed(batch(*pairs))
    assert {text: large[text] for text in small} == small, "appended rows move none"
    turned = placed(batch(*reversed(pairs)))
    assert {text for text in large if large[text] == "test"} == {text for text in turned if turned[text] == "test"}


def test_a_label_that_no_training_row_has_is_taken_out(tmp_path: Path) -> None:
    split = "steps: [dedup: {}, split: {by: order, valid: 0.2, test: 0.2}]"
    rows = [dict(row) for row in ROWS]
    rows[-1], rows[-2] = {**rows[-1], "label": ["late"]}, {**rows[-2], "label": ["late", "money"]}
    report, out = prepared(tmp_path, rows, prepare=split)
    test = {row["text"]: row["label"] for row in lines(out, "test")}
    assert test[rows[-2]["text"]] == ["money"]
    assert rows[-1]["text"] not in test, "without its label it would say that none fits"
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["label"]) for row in dropped] == [("label_not_in_train", ["late"])]
    assert any("no training row has them: late (2 rows)" in line for line in report.warnings)


def test_a_test_file_with_an_unknown_label_is_refused(tmp_path: Path) -> None:
    own = [{"text": text, "label": ["money", "unheard"]} for text in texts(3)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, own)))
    with pytest.raises(DataError, match="labels that no training row has: unheard") as told:
        prepared(tmp_path, ROWS, prepare="steps: [split: {test_file: test.jsonl}]")
    assert told.value.mistakes[0].where == "test.jsonl:1"
    assert "outside" not in str(told.value.mistakes[0].do)


def test_rows_without_a_label_stay_or_go_as_the_config_says(tmp_path: Path) -> None:
    bare = [row for row in ROWS if not row["label"]]
    half = [*ROWS, *({"text": text, "label": []} for text in texts(150))]
    report, out = prepared(tmp_path, half, "kept")
    assert sum(not row["label"] for row in lines(out)) == len(bare) + 150
    assert json.loads((out / "dataset/dataset.json").read_text())["class_counts"]["train"][""] > 100
    assert any("empty: drop" in line for line in report.warnings), "so many deserve a word"
    assert table(report, "Labels of a row").rows[0][0] == "none"
    report, out = prepared(tmp_path, half, "dropped", task="labels: many, empty: drop")
    assert all(row["label"] for row in lines(out))
    reasons = [json.loads(line)["reason"] for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert reasons.count("no label") == len(bare) + 150
    assert report.numbers["bad_rows"] == 0, "they are no mistakes of the file"


def test_labels_by_row_and_by_class_are_counted(tmp_path: Path) -> None:
    report, out = prepared(tmp_path, ROWS)
    found = lines(out)
    assert report.headline.endswith("with 3 labels; 0 dropped")
    assert report.numbers["labels_per_row"] == pytest.approx(sum(len(row["label"]) for row in found) / 240, abs=1e-3)
    by_label = {row[0]: sum(row[1:]) for row in table(report, "Rows by label").rows}
    assert by_label == Counter(one for row in ROWS for one in row["label"])
    by_size = {row[0]: sum(row[1:]) for row in table(report, "Labels of a row").rows}
    assert by_size == {"none": 40, "1": 80, "2": 80, "3": 40}


def test_warnings_go_by_label(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    for row in rows[:3]:
        row["label"] = [*row["label"], "tiny"]
    for row in rows[5:30]:
        row["label"] = [*row["label"], "Money"]
    said = " ".join(prepared(tmp_path, rows)[0].warnings)
    for word in ("fewer than 5 training rows: tiny", "imbalance: ", "differ only in case or spaces: Money, money"):
        assert word in said
    single = [{**row, "label": row["label"][:1]} for row in ROWS]
    assert any("more than one label" in line for line in prepared(tmp_path, single, "single")[0].warnings)


@pytest.mark.parametrize(("labels", "words"), [(["a", "b"], "every row has a and b"), ([], "every row has no label")])
def test_labels_that_all_rows_share_teach_nothing(tmp_path: Path, labels: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        prepared(tmp_path, [{**row, "label": labels} for row in ROWS])


def test_augmented_rows_keep_all_labels(tmp_path: Path) -> None:
    steps = "steps: [clean: {}, dedup: {}, split: {}, augment: {copies: 1.0}]"
    report, out = prepared(tmp_path, ROWS, prepare=steps)
    by_id = {row["id"]: row["label"] for row in lines(out)}
    made = [row for row in lines(out, "train") if "made_from" in row]
    assert len(made) == report.numbers["augmented"] > 100
    assert all(row["label"] == by_id[row["made_from"]] for row in made)


def test_the_harvest_joins_with_its_lists(tmp_path: Path) -> None:
    _, before = prepared(tmp_path, ROWS, "before")
    known = lines(before, "train")[0]
    fresh = [{"text": text, "label": ["brand new", "money"]} for text in texts(30)]
    other = {"text": "one label of before", "label": "money"}
    none = {"text": "nothing fits this one", "label": []}
    corrected = {"text": known["text"], "label": sorted({*known["label"], "brand new"})}
    folder = places_in(tmp_path).traffic
    folder.mkdir(parents=True)
    told = [
        {"id": str(n), "at": 0.0, "request_id": str(n), **row} for n, row in enumerate([*fresh, other, none, corrected])
    ]
    (folder / "harvest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    report, out = prepared(tmp_path, ROWS, "after")
    found = {row["text"]: row["label"] for row in lines(out, "train", "valid")}
    assert found["nothing fits this one"] == []
    assert found[known["text"]] == corrected["label"]
    assert "one label of before" not in found, "it was harvested when a row had one label"
    assert (report.numbers["harvest_rows"], report.numbers["harvest_kept"]) == (33, 32)
    assert lines(before, "test") == lines(out, "test")
    counts = json.loads((out / "dataset/dataset.json").read_text())["class_counts"]
    assert counts["train"]["brand new"] >= 15 and counts["valid"]["brand new"] >= 1


def test_need_counts_labels(tmp_path: Path) -> None:
    config = tiny_labels.project(tmp_path)
    project = open_project(config)
    room = FakeRoom(tmp_path / "room")
    report = NeedStage().run(Job("demo", project.sections, TASK, {}, room, project.places, seed=0))
    numbers = report.numbers
    assert "with 3 labels" in report.headline and "f1_micro" in report.headline
    assert (numbers["classes"], numbers["rows_train"] + numbers["rows_valid"] + numbers["rows_test"]) == (3, 240)
    assert 1.3 < float(numbers["labels_per_row"] or 0) < 1.7
    assert 0.5 < float(numbers["baseline_valid"] or 0) <= 1 and numbers["baseline_valid_half"] is not None
    [by_label] = [one for one in report.tables if one.title.startswith("Rows per class")]
    assert {row[0] for row in by_label.rows} == set(NAMES)
