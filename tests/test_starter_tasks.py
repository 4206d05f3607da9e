"""`llmops init` recognises chats, preferences, questions with answers and documents; each config works unchanged."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops.core.errors import DataError, UsageError
from llmops.core.protocols import Job
from llmops.project import open_project
from llmops.stages.prepare.stage import PrepareStage
from llmops.starter import draft, write
from llmops.starter.recognise import Kind, recognise
from llmops.tasks import TASKS
from tests import tiny, tiny_answering
from tests.cases_data import csv_text
from tests.rooms import FakeRoom
from tests.test_starter import ENGLISH, sentences
from tests.tiny_chat import document_text, exchanges, instruction_rows, preference_rows

needs_answering = pytest.mark.skipif("answering" not in TASKS, reason="the task answering is not in the table yet")
CHATS: dict[str, list[dict[str, Any]]] = {
    "alpaca": instruction_rows(),
    "openai": [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in exchanges()
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}], "system": ""}
        for asked, answer in exchanges()
    ],
    "prompts": [{"prompt": asked, "completion": answer} for asked, answer in exchanges()],
}


def put(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepared(folder: Path, data: Path, **told: Any) -> tuple[Any, dict[str, Any]]:
    """The config that is written for the data, and what prepare finds with it."""
    project = open_project(write(folder, data, **told))
    train = project.config.train
    if project.task.name == "answering":  # whose own encoder is not on every machine
        train = train.model_copy(update={"model": str(tiny_answering.encoder(folder / "encoder"))})
    sections, room = {**project.sections, "train": train}, FakeRoom(folder / "rooms" / project.name)
    assert not PrepareStage().check(sections, project.task, project.places)
    report = PrepareStage().run(Job(project.name, sections, project.task, {}, room, project.places, 0))
    assert report.numbers["valid"] and report.numbers["test"]
    return project.config, report.numbers


@pytest.mark.parametrize("shape", CHATS)
def test_chats_of_any_shape(tmp_path: Path, shape: str) -> None:
    config, numbers = prepared(tmp_path, put(tmp_path, "chats.jsonl", CHATS[shape]))
    assert (config.task.name, config.task.objective) == ("text-generation", "instructions")
    assert (config.task.context, config.train.model, numbers["rows_read"]) == (64, "llama", 48)


def test_preferences_start_from_the_newest_model_that_answers(tmp_path: Path) -> None:
    data = put(tmp_path, "pairs.jsonl", preference_rows())
    config, _ = prepared(tmp_path, data)
    assert (config.task.objective, config.train.model) == ("preferences", "llama")
    for name, objective in (("old", "instructions"), ("new", "instructions"), ("text", "language-model")):
        model = put(tmp_path, f"runs/{name}/latest/train/model/model.json", [{"objective": objective}])
        age = time.time() - {"old": 100, "new": 50, "text": 0}[name]
        os.utime(model, (age, age))
    path = write(tmp_path, data, project="other")
    assert yaml.safe_load(path.read_text())["train"]["model"] == "runs/new/latest/train/model"


@needs_answering
@pytest.mark.parametrize("columns", ["question,answer,source", "id,Kundenfrage,Antwort,Kategorie"])
def test_questions_and_answers(tmp_path: Path, columns: str) -> None:
    rows = [(row["text"], row["answer"], row["source"]) for row in tiny_answering.examples(120, 1)]
    cells = [(f"K-{n}", *row) for n, row in enumerate(rows)] if columns.startswith("id") else rows
    (tmp_path / "faq.csv").write_text(csv_text(cells, columns))
    config, numbers = prepared(tmp_path, tmp_path / "faq.csv")
    names = columns.split(",")[-3:]
    assert (config.task.name, config.task.question, config.task.answer) == ("answering", *names[:2])
    assert config.task.source == ("source" if names[2] == "source" else None)
    assert numbers["rows_read"] == 120


def test_text_files_and_folders_of_them(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text(document_text() * 3)
    config, numbers = prepared(tmp_path, tmp_path / "story.txt")
    assert (config.task.objective, config.prepare.sources) == ("language-model", ["story.txt"])
    assert numbers["rows_read"] == 46
    pages = tmp_path / "pages"
    for name in ("one.md", "two.md", "deep/three.md", "deep/four.md"):
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text(document_text())
    config, numbers = prepared(tmp_path, pages)
    assert (config.task.objective, numbers["rows_read"]) == ("language-model", 64)
    (tmp_path / "lines.txt").write_text("\n".join(sentences(ENGLISH, 90)))
    config, numbers = prepared(tmp_path, tmp_path / "lines.txt")
    assert (config.prepare.sources[0].rows, numbers["rows_read"]) == ("lines", 90)


def test_labels_win_where_they_did_before(tmp_path: Path) -> None:
    """Tables in text files, folders of labels with a page beside them, and whoever names a label."""
    lines = [f"{'spam' if n % 3 else 'ham'}\t{text}" for n, text in enumerate(sentences(ENGLISH, 90))]
    (tmp_path / "sms.txt").write_text("\n".join(["kind\tmessage", *lines]))
    assert recognise(tmp_path / "sms.txt") == Kind("text-classification")
    for n, text in enumerate(sentences(ENGLISH, 40)):
        place = tmp_path / "folders" / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}.txt").write_text(text)
    (tmp_path / "folders" / "README.md").write_text("About the data.")
    assert recognise(tmp_path / "folders") == Kind("text-classification")
    rows = [{"prompt": text, "label": f"l{n % 3}"} for n, text in enumerate(sentences(ENGLISH, 60))]
    assert recognise(put(tmp_path, "prompts.jsonl", rows)) == Kind("text-classification")
    asked = [(text, "yes" if n % 2 else "no") for n, text in enumerate(sentences(ENGLISH, 60))]
    (tmp_path / "polar.csv").write_text(csv_text(asked, "question,answer"))
    assert recognise(tmp_path / "polar.csv") == Kind("text-classification")
    chats = put(tmp_path, "chats.jsonl", CHATS["openai"])
    assert recognise(chats, label="messages") == Kind("text-classification")


def test_the_task_can_be_told(tmp_path: Path) -> None:
    tiny.write_rows(tmp_path / "data.csv", 60)
    text = draft(tmp_path / "data.csv", task="text-generation")
    assert yaml.safe_load(text)["task"]["objective"] == "language-model"
    rows = [(f"{q} {n}", f"{a}!", "x") for n, (q, a) in enumerate(exchanges())]
    (tmp_path / "pairs.csv").write_text(csv_text(rows, "ask,tell,more"))
    told = yaml.safe_load(draft(tmp_path / "pairs.csv", text="ask", label="tell", task="answering"))["task"]
    assert (told["question"], told["answer"]) == ("ask", "tell")
    with pytest.raises(UsageError) as error:
        draft(tmp_path / "data.csv", task="text-generatoin")
    assert "did you mean `text-generation`?" in error.value.mistakes[0].do
    with pytest.raises(DataError, match="no column `asks`"):
        draft(tmp_path / "pairs.csv", text="asks", label="tell", task="answering")
    with pytest.raises(DataError, match="no two columns"):
        draft(put(tmp_path, "one.jsonl", [{"text": "some words here"}] * 40), task="answering")


def test_bad_rows_and_placeholders_are_seen(tmp_path: Path) -> None:
    rows = [{"instruction": f"{asked} {{{{name}}}}", "output": answer} for asked, answer in exchanges()]
    data = put(tmp_path, "rows.jsonl", rows + [{"instruction": "x", "output": ""}] * 8)
    config, numbers = prepared(tmp_path, data)
    assert config.task.fill == {"name": "NAME"}
    assert config.prepare.max_bad_rows > 8 / 56
    assert numbers["rows_read"] == 56


def test_the_data_may_lie_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_rows(tmp_path / "mine" / "data.csv", 60) if (tmp_path / "mine").mkdir() is None else None
    monkeypatch.chdir(tmp_path)
    path = write(Path(), Path("mine/data.csv"))
    assert (path.name, yaml.safe_load(path.read_text())["prepare"]["sources"]) == ("mine.yaml", ["mine/data.csv"])
