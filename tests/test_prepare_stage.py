"""The stage as a whole: artifacts, counts, the user's test file, feedback's rows, what its result depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops.core.errors import DataError
from llmops.core.protocols import Job
from llmops.core.report import Report
from llmops.core.section import Section
from llmops.stages.prepare.config import PrepareSection
from llmops.stages.prepare.stage import PrepareStage
from llmops.tasks import find
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from tests.cases_data import csv_text, good, rows, split
from tests.rooms import FakeRoom, places_in

TASK = find("text-classification")


def sections(prepare: dict[str, Any], task: dict[str, Any]) -> dict[str, Section]:
    return {
        "prepare": PrepareSection.model_validate({"sources": ["data.csv"], **prepare}),
        "task": TextClassificationSection(**task),
        "train": TextTrainSection(model="bag-of-words", vocabulary=300),
    }


def prepared(root: Path, room: str = "room", task: dict[str, Any] | None = None, **prepare: Any) -> tuple[Report, Path]:
    fake = FakeRoom(root / room)
    job = Job("demo", sections(prepare, task or {}), TASK, {}, fake, places_in(root), seed=0)
    return PrepareStage().run(job), fake.out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_data_set_is_as_the_contract_says(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    good(tmp_path, n=300, classes=3)
    report, out = prepared(tmp_path)
    folder = out / "dataset"
    about = json.loads((folder / "dataset.json").read_text())
    assert about["format"] == 1 and sum(about["counts"].values()) == 300 == report.numbers["rows_read"]
    assert json.loads((folder / "labels.json").read_text()) == ["class_0", "class_1", "class_2"]
    for name, count in about["counts"].items():
        kept, arrays = lines(folder / f"{name}.jsonl"), load_file(folder / f"{name}.safetensors")
        assert len(kept) == count == report.numbers[name]
        assert set(kept[0]) == {"id", "text", "label", "origin"}
        assert arrays["offsets"].tolist()[-1] == len(arrays["tokens"]) and len(arrays["offsets"]) == count + 1
        assert arrays["labels"].dtype == np.int64
        assert [f"class_{number}" for number in arrays["labels"]] == [row["label"] for row in kept]
    assert lines(out / "dropped.jsonl") == []
    assert Report.read(report.plain()).markdown("prepare")


def test_every_row_is_kept_or_dropped_with_a_reason(tmp_path: Path) -> None:
    base = rows(100, 2)
    extra = [base[0], (base[1][0], "class_0"), ("", "class_0"), (base[4][0] + "s", "class_0"), ("\u200b", "class_1")]
    (tmp_path / "data.csv").write_text(csv_text([*base, *extra]))
    report, out = prepared(tmp_path)
    dropped = lines(out / "dropped.jsonl")
    reasons = {row["reason"] for row in dropped}
    assert {"duplicate", "conflicting_label", "empty text", "empty_after_cleaning", "near_duplicate"} <= reasons
    assert all({"reason", "origin", "text", "label"} <= set(row) for row in dropped)
    kept = sum(int(report.numbers[name] or 0) for name in ("train", "valid", "test"))
    assert kept + len(dropped) == report.numbers["rows_read"] == 105
    assert report.numbers["dropped"] == len(dropped)
    assert not any("near twins" in line for line in report.warnings), "one of a hundred is no matter"


def test_many_near_twins_are_told_loudly(tmp_path: Path) -> None:
    base = rows(60, 2)
    (tmp_path / "data.csv").write_text(csv_text([*base, *((text + "s", label) for text, label in base)]))
    report, _ = prepared(tmp_path)
    (told,) = [line for line in report.warnings if "near twins" in line]
    assert told.startswith(f"{report.numbers['near_duplicates']} of 120 rows")


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    good(tmp_path, n=120)
    steps = [{"clean": {}}, {"dedup": {}}, {"split": {}}, {"augment": {"copies": 0.5}}]
    one, other = (prepared(tmp_path, room, steps=steps)[1] / "dataset" for room in ("one", "two"))
    ours = ["dataset.json", "labels.json", "train.jsonl", "valid.jsonl", "test.jsonl"]
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in ours)
    assert any("made_from" in row for row in lines(one / "train.jsonl"))
    assert not any("made_from" in row for name in ("valid", "test") for row in lines(one / f"{name}.jsonl"))


def test_the_users_test_file_stays_as_it_is(tmp_path: Path) -> None:
    good(tmp_path, n=200)
    shared, own = rows(200)[7], [*rows(20, seed=11), rows(20, seed=11)[3]]
    (tmp_path / "test.csv").write_text(csv_text([(f"  {shared[0].upper()} ! ", shared[1]), *own]))
    report, out = prepared(tmp_path, **split(test_file="test.csv"))
    test = lines(out / "dataset/test.jsonl")
    assert [row["origin"] for row in test] == [f"test.csv:{number}" for number in range(2, 24)]
    assert report.numbers["also_in_test"] == 1
    training = {row["text"] for name in ("train", "valid") for row in lines(out / f"dataset/{name}.jsonl")}
    assert shared[0] not in training
    assert report.numbers["near_in_test"] is not None


def harvest(root: Path, *cells: tuple[str, str]) -> None:
    folder = places_in(root).traffic
    folder.mkdir(parents=True, exist_ok=True)
    found = [
        {"id": str(n), "text": text, "label": label, "at": 0.0, "request_id": str(n)}
        for n, (text, label) in enumerate(cells)
    ]
    (folder / "harvest.jsonl").write_text("\n".join(json.dumps(row) for row in found) + "\n")


def test_feedback_joins_train_and_valid_never_test(tmp_path: Path) -> None:
    good(tmp_path, n=300)
    _, before = prepared(tmp_path, "before")
    test_before = lines(before / "dataset/test.jsonl")
    known, training = test_before[0], lines(before / "dataset/train.jsonl")[0]
    fresh = [(text.replace(" ", " please "), "brand_new") for text, _ in rows(60, seed=17)]
    harvest(tmp_path, (known["text"], "brand_new"), (training["text"].upper(), training["label"]), *fresh)
    report, out = prepared(tmp_path, "after")
    assert lines(out / "dataset/test.jsonl") == test_before
    assert report.numbers["also_in_test"] == 1
    assert (
        report.numbers["harvest_rows"] == 62 == json.loads((out / "dataset/dataset.json").read_text())["harvest_rows"]
    )
    assert "brand_new" in json.loads((out / "dataset/labels.json").read_text())
    counts = json.loads((out / "dataset/dataset.json").read_text())["class_counts"]
    assert counts["valid"]["brand_new"] >= 1 and counts["train"]["brand_new"] >= 40
    assert "brand_new" not in counts["test"]
    assert prepared(tmp_path, "without", feedback=False)[0].numbers["harvest_rows"] == 0


def test_a_damaged_harvest_is_told(tmp_path: Path) -> None:
    good(tmp_path)
    harvest(tmp_path, ("text", "label"))
    (places_in(tmp_path).traffic / "harvest.jsonl").write_text('{"text": \n')
    with pytest.raises(DataError, match="damaged"):
        prepared(tmp_path)


def test_outside_rows_validate_and_test_only(tmp_path: Path) -> None:
    extra = [(text.replace(" ", " x "), "none") for text, _ in rows(60, seed=3)]
    (tmp_path / "data.csv").write_text(csv_text([*rows(200), *extra]))
    _, out = prepared(tmp_path, task={"outside": "none"})
    counts = json.loads((out / "dataset/dataset.json").read_text())["class_counts"]
    assert "none" not in counts["train"] and counts["valid"]["none"] > 30 and counts["test"]["none"] >= 1
    assert sorted(json.loads((out / "dataset/labels.json").read_text())) == ["class_0", "class_1"]


def test_placeholders_reach_the_data_set_and_the_cleaning_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text([*rows(60), ("mail ann@shop.example now", "class_0")]))
    steps = [{"clean": {"redact": ["email"]}}, {"split": {}}]
    _, out = prepared(tmp_path, steps=steps)
    every = "".join((out / f"dataset/{name}.jsonl").read_text() for name in ("train", "valid", "test"))
    assert "mail <email> now" in every and "ann@" not in every
    assert json.loads((out / "dataset/dataset.json").read_text())["cleaning"]["redact"] == ["email"]


def test_warnings_name_what_deserves_an_eye(tmp_path: Path) -> None:
    tiny = [(text.replace(" ", " q "), "tiny") for text, _ in rows(3, seed=9)]
    cells = [*rows(200), *tiny, *((text.replace(" ", " z "), "Class_0") for text, _ in rows(20, seed=5))]
    (tmp_path / "data.csv").write_bytes(csv_text([*cells, ("größer schöner früher", "class_0")]).encode("cp1252"))
    said = " ".join(prepared(tmp_path)[0].warnings)
    for word in ("cp1252", "tiny", "imbalance", "differ only in case", "no test row"):
        assert word in said


def test_what_the_result_depends_on(tmp_path: Path) -> None:
    steps = [{"split": {"test_file": "test.csv"}}, {"augment": {"synonyms": "words.csv"}}]
    depends = PrepareStage().depends(sections({"steps": steps}, {}), TASK, places_in(tmp_path))
    names = [path.name for path in depends.files]
    assert names == ["data.csv", "test.csv", "words.csv", "harvest.jsonl"]
    assert set(depends.settings) == {"prepare", "task", "encoding"}
