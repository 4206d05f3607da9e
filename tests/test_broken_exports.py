"""deploy: an export that says something else than the trained model is never promoted, however it broke."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from llmops.bundle import format as bundle_format
from llmops.core.errors import DataError
from llmops.core.gates import judge
from llmops.core.protocols import Job
from llmops.nets.encoder import load_encoder
from llmops.nets.export import export_onnx
from llmops.stages.compress.stage import CompressStage
from llmops.stages.deploy.config import DeploySection
from llmops.stages.deploy.stage import DeployStage
from tests.rooms import FakeRoom
from tests.test_compress import TASK, trained_job
from tests.words import tiny_bert

GATES = {"parity": {"at_least": 0.98}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job of deploy, with the good bundle of a small encoder that was trained by adapters."""
    folder = tmp_path_factory.mktemp("whole")
    bert = tiny_bert(tmp_path_factory.mktemp("bert"), layers=2)
    more = {"method": "lora", "learning_rate": 0.02, "epochs": 12, "lora": {"rank": 8}}
    job = trained_job(folder, str(bert), compress={"candidates": ["float32"]}, **more)
    CompressStage().run(job)
    inputs = {**job.inputs, "bundle": folder / "out" / "bundle"}
    sections = {**job.sections, "deploy": DeploySection(threads=1)}
    return replace(job, inputs=inputs, sections=sections)


def learner(job: Job) -> Any:
    found = TASK.learner(job.sections["task"], job.sections["train"], 1)
    found.load(job.inputs["model"])
    return found


def weights_swapped(job: Job, bundle: Path) -> None:
    """Two matrices of one shape have changed places."""
    model = onnx.load(bundle / "model.onnx")
    shapes: dict[tuple[int, ...], list[Any]] = {}
    for weight in model.graph.initializer:
        if len(weight.dims) == 2 and weight.dims[0] == weight.dims[1]:
            shapes.setdefault(tuple(weight.dims), []).append(weight)
    squares = max(shapes.values(), key=len)
    arrays = [numpy_helper.to_array(weight).copy() for weight in squares]
    for weight, array in zip(squares, arrays[1:] + arrays[:1], strict=True):
        weight.CopyFrom(numpy_helper.from_array(array * 3, weight.name))
    onnx.save(model, bundle / "model.onnx")


def adapter_lost(job: Job, bundle: Path) -> None:
    """The encoder is the pretrained one, the head the trained one."""
    found = learner(job)
    found.network.encoder = load_encoder(Path(job.sections["train"].model), 0.0)
    export_onnx(found.network, bundle / "model.onnx")


def untrained(job: Job, bundle: Path) -> None:
    """The network's random start."""
    found = learner(job)
    for module in found.network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    export_onnx(found.network, bundle / "model.onnx")


def wrong_label_order(job: Job, bundle: Path) -> None:
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_bytes())
    manifest["settings"]["labels"].reverse()
    path.write_text(json.dumps(manifest))


def wrong_tokenizer(job: Job, bundle: Path) -> None:
    """One of the same size, whose ids are others'."""
    path = bundle / "tokenizer.json"
    told = json.loads(path.read_text())
    words = [word for word in told["model"]["vocab"] if not word.startswith("[")]
    ids = [told["model"]["vocab"][word] for word in words]
    told["model"]["vocab"] |= dict(zip(words, ids[7:] + ids[:7], strict=True))
    path.write_text(json.dumps(told))


def truncated(job: Job, bundle: Path) -> None:
    path = bundle / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: list[Callable[[Job, Path], None]] = [
    weights_swapped, adapter_lost, untrained, wrong_label_order, wrong_tokenizer,
]  # fmt: skip


def broken(job: Job, folder: Path, sabotage: Callable[[Job, Path], None]) -> Job:
    """The job with a bundle that broke while it was made, so that its manifest's digests are right."""
    bundle = folder / "bundle"
    shutil.copytree(job.inputs["bundle"], bundle)
    sabotage(job, bundle)
    fields = json.loads((bundle / "bundle.json").read_bytes())
    del fields["files"], fields["format"]
    bundle_format.write(bundle, fields)
    return replace(job, inputs={**job.inputs, "bundle": bundle}, room=FakeRoom(folder / "room"))


def test_the_good_one_passes(whole: Job, tmp_path: Path) -> None:
    report = DeployStage().run(broken(whole, tmp_path, lambda job, bundle: None))
    assert all(verdict.passed for verdict in judge(report.numbers, GATES))
    assert report.numbers["parity"] == 1.0


@pytest.mark.parametrize("sabotage", BREAKS, ids=[one.__name__ for one in BREAKS])
def test_a_broken_export_is_not_promoted(whole: Job, tmp_path: Path, sabotage: Callable[[Job, Path], None]) -> None:
    report = DeployStage().run(broken(whole, tmp_path, sabotage))
    [verdict] = judge(report.numbers, GATES)
    assert not verdict.passed, report.numbers["parity"]


def test_half_a_file_serves_nothing(whole: Job, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did not come up"):
        DeployStage().run(broken(whole, tmp_path, truncated))


def test_a_bundle_that_was_changed_afterwards_is_not_even_opened(whole: Job, tmp_path: Path) -> None:
    job = broken(whole, tmp_path, lambda job, bundle: None)
    truncated(job, job.inputs["bundle"])
    with pytest.raises(DataError, match="bundle"):
        DeployStage().run(job)
