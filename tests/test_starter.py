"""`llmops init`: data that nobody prepared for gives a config that is valid and that prepare can work with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmops.core.errors import DataError, UsageError
from llmops.core.protocols import Job
from llmops.project import Project, open_project
from llmops.stages.prepare.stage import PrepareStage
from llmops.starter import draft, write
from tests.cases_data import csv_text, good, put
from tests.rooms import FakeRoom

ENGLISH = "where is my order please the parcel has not come and I want to have the money back for it now".split()
GERMAN = "wo ist meine Bestellung bitte das Paket ist nicht da und ich möchte mein Geld zurück für die Schuhe".split()
SPANISH = "dónde está mi pedido por favor el paquete no llega y quiero que me devuelvan el dinero de la compra".split()
CHINESE = list("我的订单在哪里请问包裹还没有到我要退款商品坏了谢谢客服快递地址发票优惠券")


def sentences(words: list[str], n: int, seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    glue = "" if words is CHINESE else " "
    return [glue.join(dice.choices(words, k=dice.randrange(6, 14))) for _ in range(n)]


def skewed(n: int, classes: int) -> list[str]:
    """Labels with spaces: the first has a hundred times the rows of the last, which has three."""
    last = ["last class"] * 3
    return ["big class"] * 300 + [f"class no {number % (classes - 2)}" for number in range(n - 303)] + last


@dataclass(frozen=True)
class Unprepared:
    """A file as it comes: `make` returns its name and bytes; then what must be found."""

    name: str
    make: Callable[[], tuple[str, bytes]]
    text: str
    label: str
    model: str
    classes: int
    weights: str = "none"


def bom_semicolon() -> tuple[str, bytes]:
    table = zip(range(240), sentences(GERMAN, 240), [f"Thema {n % 6}" for n in range(240)], strict=True)
    lines = [f"{n};{text};{label}" for n, text, label in table]
    return "export.csv", ("\n".join(["Nr;Nachricht;Kategorie", *lines])).encode("utf-8-sig")


def imbalanced() -> tuple[str, bytes]:
    rows = zip(sentences(ENGLISH, 500), skewed(500, 8), strict=True)
    return "tickets.csv", csv_text(list(rows), "subject line,team").encode()


def numeric_labels() -> tuple[str, bytes]:
    rows = [(str(n % 2), text) for n, text in enumerate(sentences(CHINESE, 300))]
    return "reviews.csv", csv_text(rows, "label,review").encode()


def many_columns() -> tuple[str, bytes]:
    cells = [
        (
            f"T-{n:05d}",
            f"2026-01-{1 + n % 28:02d}",
            f"{n * 0.5:.2f}",
            text,
            f"intent_{n % 40}",
            "" if n % 20 else "note",
        )
        for n, text in enumerate(sentences(ENGLISH, 800))
    ]
    return "dump.csv", csv_text(cells, "ticket_id,created_at,price,customer_message,intent,remark").encode()


def empty_cells() -> tuple[str, bytes]:
    rows = [("" if n % 9 == 0 else text, "abc"[n % 3]) for n, text in enumerate(sentences(SPANISH, 270))]
    return "datos.csv", csv_text(rows, "mensaje,tema").encode("latin-1")


def nameless() -> tuple[str, bytes]:
    cells = [(text, "xyz"[n % 3], str(n)) for n, text in enumerate(sentences(ENGLISH, 150))]
    return "plain.tsv", "\n".join("\t".join(row) for row in [("a", "b", "c"), *cells]).encode()


def json_lines() -> tuple[str, bytes]:
    rows = [{"q": text, "topic": f"t{n % 3}", "meta": {"n": n}} for n, text in enumerate(sentences(ENGLISH, 150))]
    return "chats.jsonl", "\n".join(json.dumps(row) for row in rows).encode()


ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
FILES = [
    Unprepared("German, BOM, semicolon, id", bom_semicolon, "Nachricht", "Kategorie", "bag-of-words", 6),
    Unprepared("one to a hundred, labels with spaces", imbalanced, "subject line", "team", ENCODER, 8, "balanced"),
    Unprepared("Chinese, labels 0 and 1", numeric_labels, "review", "label", "text-cnn", 2),
    Unprepared("id, date, price, forty classes", many_columns, "customer_message", "intent", ENCODER, 40),
    Unprepared("Spanish, Latin-1, empty cells", empty_cells, "mensaje", "tema", "bag-of-words", 3),
    Unprepared("names that say nothing", nameless, "a", "b", ENCODER, 3),
    Unprepared("JSONL", json_lines, "q", "topic", ENCODER, 3),
]


def written(folder: Path, data: Path) -> tuple[Project, Any]:
    project = open_project(write(folder, data))
    return project, project.config


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_config_for_unprepared_data_works_unchanged(tmp_path: Path, file: Unprepared) -> None:
    name, content = file.make()
    put(content, name)(tmp_path)
    project, config = written(tmp_path, tmp_path / name)
    assert (config.task.text, config.task.label) == (file.text, file.label)
    assert (config.train.model, config.train.class_weights) == (file.model, file.weights)
    assert config.task.metric == ("f1_macro" if file.weights == "balanced" else "accuracy")
    sections = {**project.sections, "train": config.train.model_copy(update={"model": "bag-of-words"})}
    room = FakeRoom(tmp_path / "room")
    report = PrepareStage().run(Job(project.name, sections, project.task, {}, room, project.places, 0))
    assert report.numbers["classes"] == file.classes
    assert report.numbers["valid"] and report.numbers["test"]


def test_a_folder_of_text_works_too(tmp_path: Path) -> None:
    for label in ("refund", "track"):
        for number, text in enumerate(sentences(ENGLISH, 40, seed=len(label))):
            (tmp_path / "texts" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "texts" / label / f"{number}.txt").write_text(text)
    project, config = written(tmp_path, tmp_path / "texts")
    assert (project.name, config.prepare.sources) == ("texts", ["texts"])
    room = FakeRoom(tmp_path / "room")
    report = PrepareStage().run(Job("texts", project.sections, project.task, {}, room, project.places, 0))
    assert report.numbers["rows_read"] == 80


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    good(tmp_path)
    write(tmp_path, tmp_path / "data.csv", project="mine")
    with pytest.raises(UsageError) as told:
        write(tmp_path, tmp_path / "data.csv", project="mine")
    assert told.value.exit_code == 2


@pytest.mark.parametrize(
    ("folder", "source"), [(".", "data.csv"), ("configs", "data.csv"), ("elsewhere", "{root}/data.csv")]
)
def test_the_data_is_named_by_the_rule_for_paths(tmp_path: Path, folder: str, source: str) -> None:
    good(tmp_path)
    _, config = written(tmp_path / folder, tmp_path / "data.csv")
    assert config.prepare.sources == [source.format(root=tmp_path)]


def test_columns_can_be_told_and_are_checked(tmp_path: Path) -> None:
    name, content = many_columns()
    put(content, name)(tmp_path)
    assert "text: remark" in draft(tmp_path / name, text="remark")
    with pytest.raises(DataError, match="no column `intend`") as told:
        draft(tmp_path / name, label="intend")
    assert "did you mean `intent`" in told.value.mistakes[0].do


def test_alternatives_are_named_in_a_comment(tmp_path: Path) -> None:
    cells = [(text, f"c{n % 3}", f"d{n % 4}") for n, text in enumerate(sentences(ENGLISH, 120))]
    put(csv_text(cells, "message,topic,category"))(tmp_path)
    assert "# the label might also be: " in draft(tmp_path / "data.csv")


def test_data_without_labels_is_told(tmp_path: Path) -> None:
    put(csv_text([(text, str(n)) for n, text in enumerate(sentences(ENGLISH, 50))], "text,id"))(tmp_path)
    with pytest.raises(DataError, match="looks like a label"):
        draft(tmp_path / "data.csv")


def test_out_of_scope_rows_are_recognised(tmp_path: Path) -> None:
    rows = [(text, "out of scope" if n % 9 == 0 else f"c{n % 3}") for n, text in enumerate(sentences(ENGLISH, 120))]
    put(csv_text(rows))(tmp_path)
    assert 'outside: "out of scope"' in draft(tmp_path / "data.csv")
