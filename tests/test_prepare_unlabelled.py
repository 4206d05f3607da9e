"""Prepare for tasks without labels: running text split by order, questions with several answers, rows of any shape."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmops.core.errors import DataError
from llmops.core.protocols import Job, Row, Task
from llmops.core.report import Report
from llmops.records.ordering import by_order
from llmops.records.twins import characters, identity, twin_key
from llmops.stages.prepare.config import PrepareSection, SplitStep
from llmops.stages.prepare.stage import PrepareStage
from tests.cases_data import WORDS, texts
from tests.rooms import FakeRoom, places_in
from tests.shared import SHARED
from tests.unlabelled import QUESTIONS, RUNNING, TRAIN, WrittenSection, read

SHAKESPEARE = SHARED / "tinyshakespeare" / "input.txt"
SPLITS = ("train", "valid", "test")
VERBATIM = [{"split": {"by": "order"}}]


def prepared(root: Path, task: Task, room: str = "room", **prepare: Any) -> tuple[Report, Path]:
    fake = FakeRoom(root / room)
    sections = {"prepare": PrepareSection.model_validate(prepare), "task": WrittenSection(), "train": TRAIN}
    return PrepareStage().run(Job("demo", sections, task, {}, fake, places_in(root), seed=0)), fake.out


def splits(out: Path) -> dict[str, list[Row]]:
    return {split: read(out / "dataset", split) for split in SPLITS}


def dropped(out: Path) -> list[Row]:
    return [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]


def book(root: Path, paragraphs: int = 100) -> str:
    text = "\n\n".join(f"Chapter {n}.\nSo it went on." for n in range(paragraphs)) + "\n"
    (root / "book.txt").write_text(text)
    return text


def test_running_text_is_split_in_order_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    text = book(tmp_path)
    report, out = prepared(tmp_path, RUNNING, sources=["book.txt"], steps=VERBATIM)
    found = splits(out)
    assert "".join(row["document"] for split in SPLITS for row in found[split]) == text
    assert [row["part"] for split in SPLITS for row in found[split]] == list(range(1, 101))
    assert {row["document_id"] for row in found["train"]} == {"book.txt"}
    shares = [sum(len(row["text"]) for row in found[split]) / len(text) for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert report.numbers["characters"] == sum(len(row["text"]) for row in found["train"])


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason=f"{SHAKESPEARE} is not on this machine")
def test_the_last_tenth_of_shakespeare_is_held_out(tmp_path: Path) -> None:
    text = SHAKESPEARE.read_text()
    (tmp_path / "input.txt").write_text(text)
    steps = [{"split": {"by": "order", "valid": 0.1, "test": 0}}]
    report, out = prepared(tmp_path, RUNNING, sources=["input.txt"], steps=steps)
    found = splits(out)
    train, valid = ("".join(row["document"] for row in found[split]) for split in ("train", "valid"))
    assert train + valid == text
    assert found["test"] == []
    assert abs(len(valid) - len(text) / 10) < 500
    assert any("test split is empty" in line for line in report.warnings)


def test_what_the_encoder_tells_stands_in_the_report_and_no_class_does(tmp_path: Path) -> None:
    book(tmp_path)
    report, out = prepared(tmp_path, RUNNING, sources=["book.txt"], steps=VERBATIM)
    assert "classes" not in report.numbers and "class" not in report.headline
    assert not any("class" in table.title for table in report.tables)
    assert report.tables[-1].title == "Characters"
    assert [passage.title for passage in report.passages] == ["what is trained"]
    longer = WrittenSection(context=5)
    sections = {"prepare": PrepareSection(sources=["book.txt"]), "task": longer, "train": TRAIN}
    cut = PrepareStage().run(
        Job("demo", sections, RUNNING, {}, FakeRoom(tmp_path / "cut"), places_in(tmp_path), seed=0)
    )
    assert any("raise `task.context` if what was cut matters" in line for line in cut.warnings)
    assert "**" in Report.read(report.plain()).markdown("prepare")
    about = json.loads((out / "dataset/dataset.json").read_text())
    assert "class_counts" not in about and about["counts"] == {"train": 80, "valid": 10, "test": 10}


def test_held_out_text_that_was_trained_on_is_told(tmp_path: Path) -> None:
    book(tmp_path)
    (tmp_path / "book.txt").write_text((tmp_path / "book.txt").read_text() + "\nChapter 1.\nSo it went on.\n")
    report, _ = prepared(tmp_path, RUNNING, sources=["book.txt"], steps=VERBATIM)
    assert any("also stands in training: 1" in line for line in report.warnings)


def test_paragraphs_may_be_deduplicated_and_hashed_like_other_rows(tmp_path: Path) -> None:
    lines = texts(120)
    (tmp_path / "page.md").write_text("\n\n".join([*lines, lines[3].upper(), lines[4] + "s"]))
    report, out = prepared(tmp_path, RUNNING, sources=["page.md"])
    assert report.numbers["duplicates"] == 1 and report.numbers["near_duplicates"] == 1
    found = splits(out)
    assert sum(map(len, found.values())) == 120
    assert all(len(rows) > 3 for rows in found.values())
    assert all(one["part"] < other["part"] for rows in found.values() for one, other in pairwise(rows))


def test_a_folder_of_documents_needs_no_label_folders(tmp_path: Path) -> None:
    for name in ("b/two.md", "a/one.txt", "three.txt"):
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / name).write_text("\n\n".join(f"{name} says {line}" for line in texts(20)))
    _, out = prepared(tmp_path, RUNNING, sources=["pages"], steps=[{"split": {"by": "group", "group": "document_id"}}])
    found = {split: {row["document_id"] for row in rows} for split, rows in splits(out).items()}
    assert sorted(name for names in found.values() for name in names) == [
        "pages/a/one.txt", "pages/b/two.md", "pages/three.txt"
    ]  # fmt: skip


def faq(n: int = 60) -> list[Row]:
    return [
        {"question": f"{line}?", "answer": f"The {line.split()[0]} is {WORDS[k % 30]}.", "source": f"page {k}"}
        for k, line in enumerate(texts(n))
    ]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def test_several_answers_to_a_question_stay_on_one_side(tmp_path: Path) -> None:
    rows = faq()
    more = [{**row, "answer": "Or ask us.", "question": row["question"].upper()} for row in rows]
    write(tmp_path / "faq.json", [*rows, *more, {**rows[5], "source": "elsewhere"}])
    report, out = prepared(tmp_path, QUESTIONS, sources=["faq.json"])
    found = splits(out)
    assert report.numbers["duplicates"] == 1 and report.numbers["near_duplicates"] == 0
    assert sum(map(len, found.values())) == 120
    asked = {split: {row["text"].casefold() for row in kept} for split, kept in found.items()}
    assert sum(map(len, asked.values())) == 60
    assert set(found["train"][0]) == {"id", "text", "answer", "source", "origin"}
    ids = [row["id"] for kept in found.values() for row in kept]
    assert len(set(ids)) == 120


def test_a_question_that_is_a_near_twin_goes_with_all_its_answers(tmp_path: Path) -> None:
    rows = faq()
    twin = {**rows[7], "question": rows[7]["question"] + "s", "answer": "Another answer."}
    write(tmp_path / "faq.json", [*rows, twin, {**twin, "answer": "And another."}])
    report, out = prepared(tmp_path, QUESTIONS, sources=["faq.json"])
    assert report.numbers["near_duplicates"] == 2
    assert [row["twin_row"]["text"] for row in dropped(out)] == [rows[7]["question"]] * 2
    assert not any("twin_label" in row or "label" in row for row in dropped(out))
    kept = prepared(tmp_path, QUESTIONS, "kept", sources=["faq.json"], steps=[{"dedup": {"near": None}}, {"split": {}}])
    assert kept[0].numbers["dropped"] == 0


def test_bad_rows_are_named_with_their_field(tmp_path: Path) -> None:
    write(tmp_path / "faq.json", [*faq(), {"question": "no answer?"}, {"question": 7, "answer": "x"}, "words"])
    report, out = prepared(tmp_path, QUESTIONS, sources=["faq.json"])
    (table,) = [table for table in report.tables if "can't be used" in table.title]
    reasons = {str(why) for _, why in table.rows}
    assert reasons == {"answer is missing", "question is not text", "unreadable_line: not a JSON object"}
    assert all(str(where).startswith("faq.json:") for where, _ in table.rows)
    assert any('"question": "no answer?"' in row["text"] for row in dropped(out))
    write(tmp_path / "faq.json", [{"question": f"{n}?"} for n in range(62)])
    with pytest.raises(DataError, match=r"62 of 62 rows are bad.*answer is missing 62") as refusal:
        prepared(tmp_path, QUESTIONS, "refused", sources=["faq.json"])
    assert "faq.json:2" in refusal.value.mistakes[0].where


def test_many_different_reasons_are_told_in_few_words(tmp_path: Path) -> None:
    class Wordy(type(QUESTIONS)):  # type: ignore[misc]
        def example(self, section: WrittenSection, row: Row) -> Row | str:
            return f"row {row['question']} is odd"

    write(tmp_path / "faq.json", faq(40))
    with pytest.raises(DataError, match="and 32 other reasons"):
        prepared(tmp_path, Wordy(), sources=["faq.json"])


def test_an_answer_of_nothing_but_blanks_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "faq.json", [*faq(), {"question": "what now?", "answer": "\u200b \n"}])
    _, out = prepared(tmp_path, QUESTIONS, sources=["faq.json"])
    assert [(row["reason"], row["text"]) for row in dropped(out)] == [("empty_after_cleaning", "what now?")]


def test_harvested_rows_carry_the_tasks_fields_and_join_their_texts_split(tmp_path: Path) -> None:
    write(tmp_path / "faq.json", faq())
    _, before = prepared(tmp_path, QUESTIONS, "before", sources=["faq.json"])
    old = splits(before)
    fresh = [{"text": f"new {line}", "answer": "  Write   to us. "} for line in texts(30, seed=3)]
    known = [{"text": old[split][0]["text"], "answer": "A better answer.", "said": 1} for split in SPLITS]
    pair = {"text": "which?", "messages": [], "chosen": "this", "rejected": "that"}
    every = enumerate([*known, *fresh, pair])
    harvested = [{"id": str(n), "at": 1.0, "request_id": str(n), **row} for n, row in every]
    places_in(tmp_path).traffic.mkdir(parents=True)
    lines = "\n".join(json.dumps(row) for row in harvested)
    (places_in(tmp_path).traffic / "harvest.jsonl").write_text(lines)
    report, out = prepared(tmp_path, QUESTIONS, "after", sources=["faq.json"])
    new = splits(out)
    assert new["test"] == old["test"] and report.numbers["also_in_test"] == 1
    assert report.numbers["harvest_rows"] == 34 and report.numbers["harvest_kept"] == 32
    assert [row["text"] for row in dropped(out) if row["reason"] == "other_objective"] == ["which?"]
    for split in ("train", "valid"):
        answers = {row["answer"] for row in new[split] if row["text"] == old[split][0]["text"]}
        assert answers == {old[split][0]["answer"], "A better answer."}
    made = [row for row in new["train"] if row["text"].startswith("new ")]
    assert made and {row["answer"] for row in made} == {"Write to us."} and "request_id" not in made[0]


def test_nothing_left_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("Only this.\n")
    with pytest.raises(DataError, match="no row is left for validation"):
        prepared(tmp_path, RUNNING, sources=["one.txt"], steps=VERBATIM)
    (tmp_path / "two.txt").write_text("Short.\n\n" + "A far longer paragraph. " * 9)
    steps = [{"split": {"by": "order", "valid": 0.5, "test": 0.49}}]
    with pytest.raises(DataError, match="no row is left to train on"):
        prepared(tmp_path, RUNNING, sources=["two.txt"], steps=steps)


def test_augment_is_for_labels(tmp_path: Path) -> None:
    section = PrepareSection.model_validate({"sources": ["a.txt"], "steps": [{"split": {}}, {"augment": {}}]})
    sections = {"prepare": section, "task": WrittenSection(), "train": TRAIN}
    (mistake,) = PrepareStage().check(sections, RUNNING, places_in(tmp_path))
    assert "running-text" in mistake.what and mistake.where == "prepare.steps" and mistake.do


@pytest.mark.parametrize("by", ["group", "time"])
def test_order_needs_no_column_the_others_do(by: str) -> None:
    assert SplitStep(by="order", test=0).test == 0
    with pytest.raises(ValidationError, match="the name of a column"):
        SplitStep.model_validate({"by": by})


def test_shares_of_an_order_are_met_as_nearly_as_rows_allow() -> None:
    assert by_order([10] * 10, 0.2, 0.1) == ["train"] * 7 + ["valid"] * 2 + ["test"]
    assert by_order([1, 1, 98], 0.1, 0.1) == ["train"] * 3
    assert by_order([5, 5, 5, 85], 0.1, 0.6) == ["train"] * 3 + ["test"]
    assert by_order([7, 3], 0.3, 0.0) == ["train", "valid"]
    assert by_order([], 0.1, 0.1) == []


def test_twins_share_text_and_answer() -> None:
    def messages(*said: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text} for text in said]

    row = {"text": "How much?"}
    same = [
        ({**row, "answer": "1  euro"}, {"text": "how MUCH", "answer": "1 euro"}),
        ({**row, "messages": messages("a", "b")}, {**row, "messages": messages("c", "b")}),
        ({**row, "twin": "x", "answer": "1"}, {**row, "twin": "X!", "answer": "2"}),
    ]
    other = [
        ({**row, "answer": "1"}, {**row, "answer": "-1"}),
        ({**row, "messages": messages("a", "b")}, {**row, "messages": messages("a", "c")}),
        ({**row, "chosen": "a", "rejected": "b"}, {**row, "chosen": "a", "rejected": "c"}),
        ({**row, "twin": "x"}, {**row, "twin": "y"}),
    ]
    assert all(twin_key(one) == twin_key(two) for one, two in same)
    assert all(twin_key(one) != twin_key(two) and identity(one) != identity(two) for one, two in other)
    assert characters({**row, "answer": "1"}) == 10 and characters({**row, "messages": messages("abc", "d")}) == 4
    assert identity({**row, "part": 1, "document_id": "a"}) != identity({**row, "part": 2, "document_id": "a"})


def test_files_of_a_local_model_and_of_the_task_decide_the_result(tmp_path: Path) -> None:
    from llmops.tasks import find
    from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection

    class Documented(TextClassificationSection):
        def files(self) -> list[Path]:
            return [tmp_path / "pages"]

    sections = {
        "prepare": PrepareSection(sources=["data.csv"], feedback=False),
        "task": Documented(),
        "train": TextTrainSection(model=str(tmp_path / "encoder")),
    }
    depends = PrepareStage().depends(sections, find("text-classification"), places_in(tmp_path))
    assert {tmp_path / "encoder/tokenizer.json", tmp_path / "pages"} <= set(depends.files)
