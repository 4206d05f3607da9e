"""An update: a retrain that starts from the champion, is held to its right answers, and never learnt a held-out row."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmops.core.artifact import tree_digest
from llmops.core.errors import ConfigError
from llmops.core.protocols import Base, Listener
from llmops.engine.ragged import Ragged
from llmops.engine.update import begin, train_from
from llmops.project import open_project
from llmops.tasks import find
from llmops.tasks.text_classification.config import TextTrainSection, UpdateSection
from llmops.tasks.text_classification.learner import TextClassifier
from llmops.tasks.text_classification.update import Before, Hold
from tests.rooms import FakeRoom
from tests.test_loop import llmops, states
from tests.tiny import project
from tests.words import TASK, rows, settings, tiny_bert

CONFIG = """
train: {{model: {bert}, epochs: 6, learning_rate: 3e-3, update: {{}}}}
"""


def data_set(folder: Path, train: TextTrainSection, labels: tuple[str, ...]) -> Path:
    """A prepared data set of rows with these labels."""
    splits = {"train": rows(96, 1), "valid": rows(24, 2), "test": rows(24, 3)}
    kept = {name: [row for row in split if row["label"] in labels] for name, split in splits.items()}
    find("text-classification").encoder(TASK, train).prepare(kept, folder)
    for name, split in kept.items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps({**row, "id": f"{name}-{i}"}) + "\n" for i, row in enumerate(split))
        )
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Base:
    """A model that knows two of the three topics."""
    folder = tmp_path_factory.mktemp("base")
    train = settings(model=str(bert), epochs=6)
    data = data_set(folder / "dataset", train, ("cold", "wood"))
    learner = TextClassifier(TASK, train, 1)
    learner.train(data, folder / "work", FakeRoom(folder / "room"))
    learner.save(folder / "model")
    return Base(1, tree_digest(folder / "model"), folder / "model", data)


def updating(bert: Path, **changes: object) -> TextClassifier:
    return TextClassifier(TASK, settings(**{"model": str(bert), "update": {}, "epochs": 6} | changes), 1)


def test_an_update_starts_with_the_champions_answers(tmp_path: Path, bert: Path, base: Base) -> None:
    learner = updating(bert)
    data = data_set(tmp_path / "three", learner.settings, ("cold", "hot", "wood"))
    assert learner.begin_from(base.model) == ""
    problem = learner.problem(data)
    champion = TextClassifier(TASK, settings(), 1)
    champion.load(base.model)
    problem.network.eval()
    mine, theirs = problem.score(problem.train), champion.score(Ragged.read(data / "train.safetensors"))
    assert learner.labels == ["cold", "hot", "wood"]
    np.testing.assert_allclose(mine[:, [0, 2]], theirs, atol=1e-5)


def test_an_update_learns_the_new_label_and_keeps_the_old(tmp_path: Path, bert: Path, base: Base) -> None:
    learner = updating(bert, update={"rate": 1.0})
    data = data_set(tmp_path / "three", learner.settings, ("cold", "hot", "wood"))
    found = train_from(base, learner, data, tmp_path / "work", FakeRoom(tmp_path / "room"))
    assert found["base"] == {"version": 1, "sha256": base.sha256}
    assert found["metrics"]["accuracy"] > 0.9
    # the settings on disk are the config's, not those that were slowed down
    assert learner.settings.learning_rate == 1e-2


def test_an_update_that_was_stopped_ends_with_the_same_weights(tmp_path: Path, bert: Path, base: Base) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: int, metrics: dict[str, float]) -> bool:
        raise Killed

    def told(name: str, listener: Listener | None = None) -> np.ndarray:
        learner = updating(bert, checkpoint_every_s=0, precision="float32")
        room = FakeRoom(tmp_path / name)
        train_from(base, learner, data, room.work, room, listener)
        assert any("carrying on" in line for line in room.said) == (name == "killed")
        found: np.ndarray = learner.predict(data, "test")
        return found

    data = data_set(tmp_path / "three", updating(bert).settings, ("cold", "hot", "wood"))
    with pytest.raises(Killed):
        told("killed", kill)
    assert np.array_equal(told("killed"), told("undisturbed"))


def test_holding_pulls_towards_right_answers_alone() -> None:
    class Network:
        head = torch.nn.Linear(2, 2)

    before = Before(Network(), ["cold", "wood"])  # type: ignore[arg-type]
    logits = np.array([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0]], np.float32)
    truth = torch.tensor([0, 2, 1])  # the second is wrong, the third has a label that the champion lacks
    hold = Hold.to(UpdateSection(), before, ["cold", "hot", "wood"], logits, truth)
    assert hold.right.tolist() == [1.0, 0.0, 0.0]
    answers = torch.tensor([[4.0, 9.0, 0.0], [0.0, 9.0, 4.0], [4.0, 9.0, 0.0]], requires_grad=True)
    assert hold.loss(answers, np.arange(3)).item() == pytest.approx(0.0, abs=1e-6)
    other = torch.tensor([[0.0, 9.0, 4.0], [0.0, 9.0, 4.0], [4.0, 9.0, 0.0]], requires_grad=True)
    lost = hold.loss(other, np.arange(3))
    lost.backward()
    assert lost.item() > 1.0
    assert other.grad is not None
    assert (other.grad[1:] == 0).all()
    assert (other.grad[:, 1] == 0).all(), "what is new is no matter of the champion's"
    assert other.grad[0, 0] < 0 < other.grad[0, 2]


def test_a_base_that_learnt_held_out_rows_or_does_not_fit_is_not_taken(tmp_path: Path, bert: Path, base: Base) -> None:
    learner = updating(bert)
    data = data_set(tmp_path / "three", learner.settings, ("cold", "hot", "wood"))
    assert begin(learner, base, data) == ""
    assert "its `pooling` is mean" in begin(updating(bert, pooling="first"), base, data)
    assert "gone" in begin(learner, Base(1, "digest", tmp_path / "none", base.dataset), data)
    copied = replace(base, model=tmp_path / "model")
    shutil.copytree(base.model, copied.model)
    assert begin(learner, copied, data) == ""
    with (copied.model / "model.json").open("a") as stream:
        stream.write(" ")
    assert "digest differs" in begin(learner, copied, data)
    with (data / "test.jsonl").open("a") as stream:
        stream.write((base.dataset / "train.jsonl").read_text().splitlines()[3] + "\n")
    assert "it learnt 1 of the rows that are held out" in begin(learner, base, data)
    room = FakeRoom(tmp_path / "room")
    found = train_from(base, learner, data, tmp_path / "work", room)
    assert found["base"] is None
    assert "version 1" in found["not_updated"]


def test_from_scratch_there_is_no_update(tmp_path: Path) -> None:
    config = project(tmp_path)
    with pytest.raises(ConfigError) as told:
        open_project(config, ["train.update={}"])
    assert "pretrained encoder" in told.value.mistakes[0].what


def add_rows(config: Path, label: str, words: str) -> None:
    with (config.parent / "data.csv").open("a") as stream:
        stream.writelines(f"{words} number {i} {chr(97 + i)}{chr(98 + i)} please,{label}\n" for i in range(24))


def update_of(said: str) -> int | None:
    report = json.loads((Path(json.loads(said)["path"]) / "train" / "report.json").read_text())
    number: int | None = report["numbers"]["update_of_version"]
    return number


def test_the_loop_updates_once_for_each_change_of_the_rows(tmp_path: Path, bert: Path) -> None:
    """Versions 1, 2, 3, each from the one before; nothing is done twice, whoever serves meanwhile."""
    config = project(tmp_path)
    text = "\n".join(line for line in config.read_text().splitlines() if not line.startswith("train:"))
    text = text.replace("above_baseline: null", "above_baseline: null, champion: null").replace(
        "at_least: 0.6", "at_least: 0"
    )
    config.write_text(text + CONFIG.format(bert=bert))

    first = llmops("run", config, "--json")
    assert (json.loads(first)["champion"], update_of(first)) == (1, None)
    assert set(states(llmops("run", config, "--json")).values()) == {"done"}

    add_rows(config, "warranty", "guarantee repair broken claim")
    second = llmops("run", config, "--json")
    assert (json.loads(second)["champion"], update_of(second)) == (2, 1)
    assert set(states(llmops("run", config, "--json")).values()) == {"done"}

    together = ("--set", "train.processes=2")  # the start travels to the processes too
    again = llmops("train", config, "--set", "train.learning_rate=1e-3", *together, "--json")
    assert update_of(again) == 1, "the same rows: from what version 2 itself started from"

    llmops("rollback", config)
    assert not {"run"} & set(states(llmops("train", config, "--json")).values())
    llmops("rollback", config, "2")

    add_rows(config, "gift", "present wrapping birthday voucher")
    third = llmops("run", config, "--json")
    assert (json.loads(third)["champion"], update_of(third)) == (3, 2)

    changed = llmops("train", config, "--set", "prepare.steps.2.split.valid=0.3", "--json")
    assert update_of(changed) is None, "split in another way, rows held out now may have been learnt"
