"""One suite over every task and every stage: what core.protocols promises, shown on a loop that really turned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops.bundle.predictor import Predictor
from llmops.core.run import RunStore
from llmops.core.section import Section
from llmops.loop import LOOP, Step, load, stage
from llmops.project import Project, open_project, sections_in
from llmops.tasks import TASKS, find
from tests import tiny
from tests.rooms import FakeRoom
from tests.test_loop import llmops

SAMPLES: dict[str, Callable[[Path], Path]] = {"text-classification": tiny.project}
"""A tiny project for each task; a task without one fails here."""


@pytest.fixture(scope="module", params=sorted(TASKS))
def turned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of each task whose loop has turned once."""
    config = SAMPLES[request.param](tmp_path_factory.mktemp("contract"))
    llmops("run", config)
    return open_project(config)


def run_folder(project: Project) -> Any:
    return RunStore(project.places.runs).runs()[0]


def every_section() -> list[type[Section]]:
    tops = [load(row.section) for row in LOOP if row.section]
    for name in TASKS:
        tops += [find(name).section, find(name).train_section]
    found: dict[str, type[Section]] = {}

    def collect(cls: type[Section]) -> None:
        if cls.__name__ in found:
            return
        found[cls.__name__] = cls
        for field in cls.model_fields.values():
            for inner in sections_in(field.annotation):
                collect(inner)  # type: ignore[arg-type]

    for cls in tops:
        collect(cls)
    return list(found.values())


@pytest.mark.parametrize("cls", every_section(), ids=lambda cls: cls.__name__)
def test_every_setting_is_documented_and_frozen(cls: type[Section]) -> None:
    assert cls.model_config["extra"] == "forbid"
    assert cls.model_config["frozen"]
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name} has no docstring"


@pytest.mark.parametrize("row", LOOP, ids=lambda row: row.name)
def test_stages_have_one_shape(row: Step, turned: Project) -> None:
    made = stage(row)
    assert made.name == row.name
    assert made.version >= 1
    if row.name not in turned.sections:
        return
    depends = made.depends(turned.sections, turned.task, turned.places)
    json.dumps(depends.settings)
    assert depends == made.depends(turned.sections, turned.task, turned.places), "depends is a pure function"
    assert made.check(turned.sections, turned.task, turned.places) == []
    if row.gated:
        assert callable(made.promote)  # type: ignore[attr-defined]


def test_every_taken_kind_has_a_giver_before_it() -> None:
    given: set[str] = set()
    for row in LOOP:
        assert set(row.takes) | set(row.consults) <= given, row.name
        given |= set(row.gives)


def test_reports_have_figures_and_words(turned: Project) -> None:
    run = run_folder(turned)
    for row in LOOP:
        if row.name not in turned.sections:
            continue
        report = run.report(row.name)
        assert report.headline
        assert report.numbers, row.name
        assert all(value is None or isinstance(value, int | float | str | bool) for value in report.numbers.values())
        assert report.markdown(row.name).startswith(f"# {row.name}")


def test_the_data_set_is_readable_by_people(turned: Project) -> None:
    dataset = run_folder(turned).path / "prepare" / "dataset"
    counts = json.loads((dataset / "dataset.json").read_text())["counts"]
    ids: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        rows = [json.loads(line) for line in (dataset / f"{split}.jsonl").read_text().splitlines()]
        assert len(rows) == counts[split] > 0
        assert all({"id", "origin"} <= set(row) for row in rows)
        ids[split] = {row["id"] for row in rows}
    assert not ids["train"] & ids["test"]
    assert not ids["train"] & ids["valid"]
    assert not ids["valid"] & ids["test"]


def test_the_learner_comes_back_from_disk_the_same(turned: Project, tmp_path: Path) -> None:
    run = run_folder(turned)
    dataset, saved = run.path / "prepare" / "dataset", run.path / "train" / "model"
    one, other = (turned.task.learner(turned.sections["task"], turned.sections["train"], 0) for _ in range(2))
    one.load(saved)
    before = one.predict(dataset, "test")
    one.save(tmp_path / "again")
    other.load(tmp_path / "again")
    assert (before == other.predict(dataset, "test")).all()
    assert [path.name for path in other.export(tmp_path / "onnx")] == ["model.onnx"]


def test_training_twice_gives_the_same_weights(turned: Project, tmp_path: Path) -> None:
    dataset = run_folder(turned).path / "prepare" / "dataset"
    answers = []
    for attempt in range(2):
        learner = turned.task.learner(turned.sections["task"], turned.sections["train"], 3)
        room = FakeRoom(tmp_path / str(attempt))
        learner.train(dataset, room.work, room)
        answers.append(learner.predict(dataset, "valid"))
    assert (answers[0] == answers[1]).all()


def test_codec_and_runtime_answer_one_like_many(turned: Project, tmp_path: Path) -> None:
    bundle = run_folder(turned).path / "compress" / "bundle"
    shutil.copytree(bundle, tmp_path / "bundle")  # a bundle stands on its own
    predictor = Predictor.open(tmp_path / "bundle", threads=1)
    rows = (run_folder(turned).path / "prepare" / "dataset" / "test.jsonl").read_text().splitlines()[:9]
    requests = [predictor.codec.Request(text=json.loads(row)["text"]) for row in rows]
    many = predictor.answer(requests)
    single = [predictor.answer([request])[0] for request in requests]
    assert [answer.best for answer in many] == [answer.best for answer in single]
    # int8 activations share one scale over the batch, so its company moves an answer a little
    assert all(abs(a.probability - b.probability) < 0.05 for a, b in zip(many, single, strict=True))
    assert predictor.answer_all(requests, batch=4) == predictor.answer_all(requests, batch=4)
