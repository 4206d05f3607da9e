"""One suite over every task and every stage: what core.protocols promises, shown on a loop that really turned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops.bundle.predictor import Predictor
from llmops.core.accept import AcceptSection
from llmops.core.protocols import Judged
from llmops.core.run import RunStore
from llmops.core.section import Section
from llmops.fields.rows import read_split
from llmops.loop import LOOP, Step, load, stage
from llmops.project import Project, open_project, sections_in
from llmops.tasks import TASKS, find
from tests import tiny, tiny_answering, tiny_chat, tiny_labels, tiny_table
from tests.rooms import FakeRoom
from tests.test_loop import llmops

ROOT = Path(__file__).parent.parent


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "text-classification": tiny.project,
    "text-classification, several labels": tiny_labels.project,
    "text-generation": tiny_chat.project,
    "answering": tiny_answering.project,
    "tabular": tiny_table.project,
    "tabular, a number": tiny_table.numbers,
}
"""A tiny project for each task, whose loop turns in seconds; a task without one fails here."""


def test_every_task_has_a_sample() -> None:
    assert {name.partition(",")[0] for name in SAMPLES} == set(TASKS)


@pytest.fixture(scope="module", params=sorted(SAMPLES))
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
        tops += [find(name).section, find(name).train_section, find(name).accept_section]
    found: dict[str, type[Section]] = {}

    def collect(cls: type[Section]) -> None:
        if (name := f"{cls.__module__}.{cls.__name__}") in found:
            return
        found[name] = cls
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


def test_the_data_set_can_be_read(turned: Project) -> None:
    dataset = run_folder(turned).path / "prepare" / "dataset"
    counts = json.loads((dataset / "dataset.json").read_text())["counts"]
    ids: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        rows = list(read_split(dataset, split))
        assert len(rows) == counts[split] > 0
        assert all({"id", "origin"} <= set(row) for row in rows)
        ids[split] = {row["id"] for row in rows}
    assert not ids["train"] & ids["test"]
    assert not ids["train"] & ids["valid"]
    assert not ids["valid"] & ids["test"]


def same(one: Any, other: Any) -> bool:
    """Whether raw answers are equal to the last bit, whatever a task's answers look like."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def learner_of(project: Project, seed: int = 0) -> Any:
    return project.task.learner(project.sections["task"], settled(project.sections["train"]), seed)


def settled(train: Section) -> Section:
    """The train section without what `auto` would choose by the clock: a busy machine may choose otherwise."""
    fixed = {"precision": "float32", "batch_size": 16}
    return train.model_copy(update={name: value for name, value in fixed.items() if hasattr(train, name)})


def dataset_of(project: Project) -> Path:
    return run_folder(project).path / "prepare" / "dataset"


def test_the_learner_comes_back_from_disk_the_same(turned: Project, tmp_path: Path) -> None:
    run, dataset = run_folder(turned), dataset_of(turned)
    one, other = learner_of(turned), learner_of(turned)
    one.load(run.path / "train" / "model")
    before = one.predict(dataset, "test")
    one.save(tmp_path / "again")
    other.load(tmp_path / "again")
    assert same(before, other.predict(dataset, "test"))
    (tmp_path / "onnx").mkdir()
    assert (tmp_path / "onnx" / "model.onnx") in other.export(tmp_path / "onnx")


def test_training_twice_gives_the_same_weights(turned: Project, tmp_path: Path) -> None:
    answers, metric = [], turned.task.metric(turned.sections["task"])
    for attempt in range(2):
        learner, room = learner_of(turned, seed=3), FakeRoom(tmp_path / str(attempt))
        result = learner.train(dataset_of(turned), room.work, room)
        assert {"metrics", "history", "curve", "seconds", "best_epoch", "epochs"} <= result.keys()
        assert metric.name in result["metrics"]
        assert all(metric.name in row for row in result["history"])
        answers.append(learner.predict(dataset_of(turned), "valid"))
    assert same(*answers)


def test_the_task_says_what_it_can(turned: Project) -> None:
    task, section = turned.task, turned.sections["task"]
    assert task.runtime in ("oneshot", "stepper")
    assert set(task.default_forms) <= set(task.forms)
    assert "float32" in task.forms
    assert issubclass(task.accept_section, AcceptSection)
    rows, inputs = list(read_split(dataset_of(turned), "valid")), task.inputs(section)
    asks = [ask for row in rows for ask in task.asks(section, row)]
    assert asks and all(ask.keys() == inputs.keys() for ask in asks)
    if not task.columned:
        loud = task.cleaned(rows[0], str.upper)
        assert loud["text"] == rows[0]["text"].upper() and loud["id"] == rows[0]["id"]
    assert all(("label" in row) == (task.predicts(section) != "nothing") for row in rows)
    assert all(column for column in task.columns(section))
    silent = Judged("1", 1.0, 1, None, False, "http", None, None, 2.0)
    assert task.harvested(section, silent) is None


def test_what_is_promised_is_measured(turned: Project) -> None:
    """The metric and every gate that is set unless somebody says otherwise stand in deploy's figures."""
    numbers = run_folder(turned).report("deploy").numbers
    metric = turned.task.metric(turned.sections["task"])
    defaults = turned.task.accept_section().plain()
    wanted = {"champion_delta" if gate == "champion" else gate for gate, bounds in defaults.items() if bounds}
    assert {metric.name, "size_mb", "baseline", *wanted} <= numbers.keys()
    assert numbers["above_baseline"] == pytest.approx(metric.gain(numbers[metric.name], numbers["baseline"]))
    compressed = run_folder(turned).report("compress").numbers
    assert {f"valid_{metric.name}", f"valid_{metric.name}_trained", "agreement", "size_mb"} <= compressed.keys()
    lines = (run_folder(turned).path / "deploy" / "proof" / "answers.jsonl").read_text().splitlines()
    assert lines and all(json.loads(line)["id"] for line in lines)


def test_a_bundle_is_its_own_champion(turned: Project) -> None:
    """`score` on the bundle says what the proof said."""
    bundle, numbers = run_folder(turned).path / "compress" / "bundle", run_folder(turned).report("deploy").numbers
    section = turned.sections["task"]
    metric = turned.task.metric(section)
    scored = turned.task.score(section, dataset_of(turned), "test", Predictor.open(bundle, threads=1))
    assert scored == pytest.approx(numbers[metric.name], abs=0.05)


def test_a_bundle_answers_without_torch(turned: Project, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(run_folder(turned).path / "compress" / "bundle", bundle)  # a bundle stands on its own
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from llmops.bundle.predictor import Predictor\nPredictor.open(Path(sys.argv[1]), threads=1)\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bundle)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_codec_and_runtime_answer_one_like_many(turned: Project) -> None:
    predictor = Predictor.open(run_folder(turned).path / "compress" / "bundle", threads=1)
    rows = list(read_split(dataset_of(turned), "test"))[:9]
    if turned.task.runtime == "stepper":
        return steps_like_it_reads(predictor, rows)
    requests = [predictor.codec.request(row) for row in rows]
    many = predictor.answer(requests)
    single = [predictor.answer([request])[0] for request in requests]
    # what every one-shot response has, for the traffic log keeps it
    assert [answer.best for answer in many] == [answer.best for answer in single]
    # int8 activations share one scale over the batch, so its company moves an answer a little
    sure = [(a.probability or 0.0, b.probability or 0.0) for a, b in zip(many, single, strict=True)]
    assert all(abs(ours - theirs) < 0.05 for ours, theirs in sure)
    assert predictor.answer_all(requests, batch=4) == predictor.answer_all(requests, batch=4)


def steps_like_it_reads(predictor: Predictor, rows: list[dict[str, Any]]) -> None:
    """Whether a slot is prefilled, stepped in company or read at once, the next token's logits are the same."""
    codec, stepper = predictor.codec, predictor.runtime
    texts = [codec.prompt(row["text"])[: codec.context // 2] for row in rows[: stepper.slots]]
    whole = [stepper.score(tokens) for tokens in texts]
    for slot, tokens in enumerate(texts):
        first = stepper.prefill(slot, tokens[:1])
        assert np.allclose(first, whole[slot][0], atol=1e-3)
    for place in range(1, max(len(tokens) for tokens in texts)):
        step = {slot: tokens[place] for slot, tokens in enumerate(texts) if place < len(tokens)}
        for slot, logits in zip(step, stepper.step(step), strict=True):
            assert np.allclose(logits, whole[slot][place], atol=1e-3)
    for slot, tokens in enumerate(texts):
        assert stepper.length(slot) == len(tokens)
        stepper.free(slot)
        assert stepper.length(slot) == 0
