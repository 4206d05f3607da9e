"""deploy: the figures come from the real server and match what is known of the rows; what passes is promoted whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import numpy as np
import pytest
import yaml
from sklearn.metrics import balanced_accuracy_score, f1_score

from llmops.bundle.runtimes import open_runtime
from llmops.core.errors import DataError
from llmops.core.protocols import Job, Metric, Proof
from llmops.core.report import Passage, Report
from llmops.registry import store
from llmops.stages.deploy import container, prove
from llmops.stages.deploy.config import DeploySection
from llmops.stages.deploy.manifests import as_name, write_manifests
from llmops.stages.deploy.stage import DeployStage
from llmops.stages.need.config import need_section
from llmops.tasks import asking
from llmops.tasks.text_classification import TextClassification
from llmops.tasks.text_classification.codec import TextCodec, TextRequest
from llmops.tasks.text_classification.config import (
    GATES_OF_MANY,
    TextAcceptSection,
    TextClassificationSection,
    TextTrainSection,
)
from tests import standin
from tests.rooms import FakeRoom

WORDS = {"card": 40, "parcel": 40, "refund": 20}
WRONG = {7: "refund", 51: "card", 60: "card"}
"""Rows whose text names another label than their own."""
OUTSIDE = ["tell me a joke", "the card of the weather"]


class Learner:
    """The trained model's stand-in: the bundle's own logits, but for `changed` rows."""

    def __init__(self, bundle: Path, changed: list[int]) -> None:
        self.bundle, self.changed = bundle, changed

    def load(self, folder: Path) -> None:
        assert folder.name == "model"

    def predict(self, dataset: Path, split: str) -> np.ndarray:
        codec = TextCodec(self.bundle)
        lines = (dataset / f"{split}.jsonl").read_text().splitlines()
        requests = [TextRequest(text=json.loads(line)["text"]) for line in lines]
        [logits] = open_runtime(self.bundle, 1).run(codec.encode(requests))
        logits[self.changed] = logits[self.changed][:, ::-1]
        return logits


class Task(TextClassification):
    """Text classification with the stand-in for its learner."""

    def __init__(self, bundle: Path, changed: list[int]) -> None:
        self.bundle, self.changed = bundle, changed

    def learner(self, section: Any, train: Any, seed: int) -> Any:
        return Learner(self.bundle, self.changed)


def examples() -> list[dict[str, str]]:
    labels = [label for label, count in WORDS.items() for _ in range(count)]
    rows = [
        {"text": f"about {WRONG.get(place, label)} number {place}", "label": label}
        for place, label in enumerate(labels)
    ]
    rows += [{"text": text, "label": "other"} for text in OUTSIDE]
    return [{"id": f"{place:016x}", "origin": f"t.csv:{place}", **row} for place, row in enumerate(rows)]


def make_job(root: Path, changed: list[int], accuracy: float = 0.5, test: bool = True) -> Job:
    metrics = {"baseline": {"metric": "f1_macro", "valid": 0.8, "test": 0.9}}
    bundle = standin.make_bundle(root / "bundle", threshold=0.5, metrics=metrics)
    dataset = root / "dataset"
    dataset.mkdir()
    (dataset / "labels.json").write_text(json.dumps(standin.LABELS))
    lines = "".join(json.dumps(row) + "\n" for row in examples())
    (dataset / "test.jsonl").write_text(lines if test else "")
    (dataset / "valid.jsonl").write_text(lines)
    (root / "model").mkdir()
    sections = {
        "task": TextClassificationSection(outside="other", metric="f1_macro"),
        "train": TextTrainSection(model="bag-of-words"),
        "need": need_section(TextAcceptSection)(accept={"accuracy": {"at_least": accuracy}}),
        "deploy": DeploySection(threads=1),
    }
    inputs = {kind: root / kind for kind in ("bundle", "dataset", "model")}
    task: Any = Task(bundle, changed)
    room = FakeRoom(root / "room")
    return Job("demo", sections, task, inputs, room, standin.places(root), 1, None, "run-1", "demo.yaml")


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Report]:
    job = make_job(tmp_path_factory.mktemp("proven"), changed=[3, 44])
    return job, DeployStage().run(job)


def test_measures_through_the_real_server(proven: tuple[Job, Report]) -> None:
    job, report = proven
    numbers: dict[str, Any] = report.numbers
    truth = [row["label"] for row in examples()][: sum(WORDS.values())]
    said = [WRONG.get(place, label) for place, label in enumerate(truth)]
    assert numbers["accuracy"] == pytest.approx(0.97)
    assert numbers["f1_macro"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert numbers["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said))
    # Row 44 is of the middle class: turned around, its logits name the same label.
    assert numbers["parity"] == pytest.approx(1 - 1 / 100)  # the two rows outside do not count
    assert numbers["probability_difference"] == pytest.approx(1, abs=0.1)
    assert (numbers["outside_recall"], numbers["coverage"]) == (0.5, 1.0)
    assert numbers["above_baseline"] == pytest.approx(numbers["f1_macro"] - 0.9)
    assert numbers["champion_delta"] is None
    files = [job.inputs["bundle"] / name for name in ("model.onnx", "tokenizer.json")]
    assert numbers["size_mb"] == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)
    assert 0.1 < numbers["latency_p50_ms"] <= numbers["latency_p95_ms"] < 2000
    assert numbers["accuracy_low"] < 0.97 < numbers["accuracy_high"]
    others = {"champion", *TextClassification.of_two, *GATES_OF_MANY}
    assert set(TextAcceptSection.model_fields) - others <= set(numbers)


def test_the_proof_keeps_each_rows_answer(proven: tuple[Job, Report]) -> None:
    job, report = proven
    lines = [json.loads(line) for line in (job.room.out / "proof" / "answers.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in examples()]
    assert (lines[3]["best"], lines[3]["trained"], lines[3]["true"]) == ("card", "refund", "card")
    assert lines[-2]["abstained"]
    assert lines[0]["latency_ms"] > 0
    proof = json.loads((job.room.out / "proof" / "proof.json").read_text())
    assert proof["numbers"]["accuracy"] == report.numbers["accuracy"]


def test_the_champion_is_scored_on_the_same_rows(tmp_path: Path) -> None:
    job = make_job(tmp_path, changed=[])
    champion = standin.make_bundle(tmp_path / "champion", labels=["card", "old label", "parcel"])
    report = DeployStage().run(replace(job, champion=champion))
    truth = [row["label"] for row in examples()][: sum(WORDS.values())]
    said = [WRONG.get(place, label) for place, label in enumerate(truth)]
    theirs = f1_score(truth, [word if word != "refund" else "card" for word in said], average="macro")
    ours = f1_score(truth, said, average="macro")
    assert report.numbers["champion_delta"] == pytest.approx(ours - theirs)


def edit_manifest(bundle: Path, **fields: object) -> None:
    path = bundle / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(("fields", "word"), [({"format": 1}, "format 1"), ({"task": "another"}, "task another")])
def test_a_champion_that_cannot_be_compared_stands_in_nobodys_way_and_is_named(
    tmp_path: Path, fields: dict[str, object], word: str
) -> None:
    job = make_job(tmp_path, changed=[])
    champion = standin.make_bundle(tmp_path / "champion")
    edit_manifest(champion, **fields)
    report = DeployStage().run(replace(job, champion=champion))
    assert report.numbers["champion_delta"] is None
    assert any("could not be compared" in warning and word in warning for warning in report.warnings)


def test_a_damaged_champion_stops_deploy(tmp_path: Path) -> None:
    job = make_job(tmp_path, changed=[])
    champion = standin.make_bundle(tmp_path / "champion")
    (champion / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        DeployStage().run(replace(job, champion=champion))


class LossTask(Task):
    """A task whose metric is better when lower, proven without asking the server much."""

    def metric(self, section: Any) -> Metric:
        return Metric("loss", higher=False)

    def prove(self, section: Any, dataset: Path, bundle: Path, server: Any, learner: Any, room: Any) -> Proof:
        assert server.post("/v1/predict", {"text": "card"})["best"] == "card"
        with pytest.raises(DataError, match="422"):
            server.post("/v1/predict", {"nonsense": 1})
        return Proof("Proven.", {"loss": 1.5}, passages=[Passage("One", [("a", True)])], lines=[{"id": "1"}])

    def score(self, section: Any, dataset: Path, split: str, opened: Any) -> float:
        assert split == "test"
        return 2.0


def test_a_lower_loss_is_better_than_baseline_and_champion(tmp_path: Path) -> None:
    job = make_job(tmp_path, changed=[])
    champion = standin.make_bundle(tmp_path / "champion")
    report = DeployStage().run(replace(job, champion=champion, task=LossTask(job.inputs["bundle"], [])))
    assert report.numbers["above_baseline"] == pytest.approx(0.9 - 1.5)  # the bundle says 0.9 of its baseline
    assert report.numbers["champion_delta"] == pytest.approx(0.5)
    assert report.headline.startswith("Proven, ") and report.headline.endswith("MB.")
    assert report.passages[0].title == "One"
    assert (job.room.out / "proof" / "answers.jsonl").read_text() == '{"id": "1"}\n'


def test_validation_stands_in_for_test_and_a_margin_too_fine_is_warned_of(
    proven: tuple[Job, Report], tmp_path: Path
) -> None:
    report = DeployStage().run(make_job(tmp_path, changed=[], accuracy=0.96, test=False))
    assert report.numbers["baseline"] == 0.8
    for words in ("no test row", "can only show differences"):
        assert any(words in warning for warning in report.warnings)
        assert not any(words in warning for warning in proven[1].warnings)


def test_a_server_that_does_not_come_up_leaves_its_last_words(tmp_path: Path) -> None:
    job = make_job(tmp_path, changed=[])
    tokenizer = job.inputs["bundle"] / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with (
        pytest.raises(DataError, match="did not come up") as caught,
        prove.BundleServer(job.inputs["bundle"], DeploySection(), tmp_path),
    ):
        pass
    assert "tokenizer.json has" in caught.value.mistakes[0].snippet


def test_a_killed_deploy_leaves_no_server_behind(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    script = """
import sys, time
from pathlib import Path
from llmops.serving.config import ServeSection
from llmops.stages.deploy.prove import BundleServer
with BundleServer(Path(sys.argv[1]), ServeSection(threads=1), Path(sys.argv[2])):
    print("up", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(bundle), str(tmp_path)]
    with subprocess.Popen(command, cwd=standin.HERE, stdout=subprocess.PIPE, text=True) as deploy:
        assert deploy.stdout is not None
        assert deploy.stdout.readline() == "up\n"
        port = int((tmp_path / "port").read_text())
        assert standin.is_ready(port)
        deploy.kill()
        standin.wait_until(lambda: not standin.is_ready(port), 10)


def test_an_even_sample() -> None:
    assert asking.even_sample(3, 200) == [0, 1, 2]
    assert asking.even_sample(1000, 4) == [0, 250, 500, 750]
    assert len(set(asking.even_sample(3080, 200))) == 200


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a promoted version."""
    root = tmp_path_factory.mktemp("promoted")
    job = make_job(root, changed=[])
    report = DeployStage().run(job)
    DeployStage().promote(job, report)
    assert report.numbers["version"] == 1
    assert any("llmops serve demo.yaml" in command for command in report.next)
    number, bundle = store.champion(job.places.registry) or (0, Path())
    assert number == 1
    assert store.versions(job.places.registry)[0].run == "run-1"
    return bundle.parent


def test_promotion_puts_the_container_files_beside_the_bundle(promoted: Path) -> None:
    [wheel] = promoted.glob("*.whl")
    dockerfile = (promoted / "Dockerfile").read_text()
    assert f"COPY {wheel.name} ./" in dockerfile
    assert "USER serve" in dockerfile
    assert "/livez" in dockerfile
    ignored = (promoted / ".dockerignore").read_text().splitlines()
    assert ignored == ["*", "!bundle", "!*.whl"]
    compose = yaml.safe_load((promoted / "compose.yaml").read_text())
    assert compose["services"]["demo"]["ports"] == ["127.0.0.1:8080:8080"]


@pytest.mark.parametrize("key", [None, "DESK_KEY"])
def test_kubernetes_takes_the_manifests(tmp_path: Path, key: str | None) -> None:
    write_manifests(tmp_path, "Desk of_Demos", DeploySection(key_env=key), size_mb=24.0)
    told = list(yaml.safe_load_all((tmp_path / "kubernetes.yaml").read_text()))
    assert [one["kind"] for one in told] == ["PersistentVolumeClaim", "Deployment", "Service"]
    for one in told:
        kubernetes_validate.validate(one, "1.34", strict=True)
    [server] = told[1]["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["requests"]["memory"] == "560Mi"
    assert {"readinessProbe", "livenessProbe", "startupProbe"} <= server.keys()
    assert [one["name"] for one in server.get("env", [])] == ([key] if key else [])
    server["ports"][0]["containerPort"] = "eighty"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(told[1], "1.34", strict=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    settings = DeploySection(key_env="DESK_KEY", allow_origins=["https://shop.example/100%", "$HOME"])
    write_manifests(tmp_path, "demo", settings, size_mb=24.0)
    unit = tmp_path / "demo.service"
    text = unit.read_text()
    assert "EnvironmentFile=/etc/demo.env" in text and "--traffic /var/lib/demo/traffic.db" in text
    unit.write_text(text.replace("/opt/demo/venv/bin/python", sys.executable).replace("/opt/demo", str(tmp_path)))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "demo.service" not in done.stderr, done.stderr


def test_another_key_reaches_the_files_of_a_version_that_is_there_already(tmp_path: Path) -> None:
    job = make_job(tmp_path, changed=[])
    DeployStage().promote(job, DeployStage().run(job))
    sections = {**job.sections, "deploy": DeploySection(threads=1, key_env="DESK_KEY")}
    again = replace(job, sections=sections, room=FakeRoom(tmp_path / "again"))
    before, after = (DeployStage().depends(one.sections, one.task, one.places) for one in (job, again))
    assert before.settings != after.settings, "deploy is done again"
    DeployStage().promote(again, DeployStage().run(again))
    number, bundle = store.champion(job.places.registry) or (0, Path())
    assert number == 1
    for name in ("Dockerfile", "compose.yaml", "kubernetes.yaml", "demo.service"):
        assert "DESK_KEY" in (bundle.parent / name).read_text() or name == "demo.service"


@pytest.mark.parametrize(("project", "name"), [
    ("Desk of_Demos", "desk-of-demos"), ("2024-tickets", "model-2024-tickets"), ("no", "model-no"),
    ("123", "model-123"), ("true", "model-true"), ("risk", "risk"), ("a" * 49 + "-b", "a" * 49),
])  # fmt: skip
def test_names_that_a_cluster_takes(project: str, name: str) -> None:
    assert as_name(project) == name


def test_without_sources_the_same_version_comes_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "build_wheel", lambda source, folder: (None, "no sources"))
    warning = container.write_container(tmp_path, "demo", DeploySection())
    assert warning is not None
    assert "RUN pip install --no-cache-dir llmops-loop==" in (tmp_path / "Dockerfile").read_text()


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) of a Dockerfile."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


@pytest.mark.prove
def test_the_dockerfiles_steps_by_hand(promoted: Path, tmp_path: Path) -> None:
    """No engine here: a fresh environment stands for the image, a folder for /app; the rest is the Dockerfile's own."""
    home, app = tmp_path / "image", tmp_path / "app"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    app.mkdir()
    steps = instructions(promoted / "Dockerfile")
    for name, argument in steps:
        if name == "COPY":
            source = argument.split()[-2]
            subprocess.run(["cp", "-r", str(promoted / source), str(app)], check=True)
        if name == "RUN" and argument.startswith("pip install"):
            subprocess.run([str(python), "-m", *argument.split()], cwd=app, check=True, capture_output=True)
    listed = subprocess.run(
        [str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout.lower()
    assert "llmops-loop" in listed
    assert not [name for name in ("torch", "transformers", "datasets", "scikit-learn") if f"\n{name} " in listed]
    port = "18347"
    command = json.loads(next(argument for name, argument in steps if name == "CMD"))
    swapped = {"python": str(python), "8080": port, "/traffic/traffic.db": str(tmp_path / "traffic.db")}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    server = subprocess.Popen([swapped.get(word, word) for word in command], cwd=app, env=environment)
    try:
        standin.wait_until(lambda: standin.is_ready(int(port)), 30)
        assert standin.Caller(int(port)).text("my parcel")["label"] == "parcel"
        status, _, page = standin.Caller(int(port)).raw("GET", "/")
        assert status == 200
        assert b"Try the model" in page
        health = json.loads(next(argument for name, argument in steps if name == "HEALTHCHECK").split("CMD ", 1)[1])
        subprocess.run([str(python), *health[1:-1], health[-1].replace("8080", port)], check=True)
    finally:
        server.terminate()
        server.wait()


def test_the_stage_loads_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'sklearn'}"
    names = ", ".join(f"llmops.stages.deploy.{name}" for name in ("stage", "prove", "container"))
    names += ", llmops.tasks.text_classification.proof"
    script = f"import sys, {names}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=standin.HERE, check=True)
    assert done.stdout.strip() == "[]"
