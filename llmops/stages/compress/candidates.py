"""Makes the candidates: each in a folder of `work`, whole or not at all; a whole one is not made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.bundle.runtimes import MODEL
from llmops.core.artifact import fsync_folder, tree_files
from llmops.core.errors import DataError
from llmops.core.protocols import Job, Task
from llmops.core.run import link_or_copy
from llmops.stages.compress.config import Candidate, CompressSection, DistilSection, Form
from llmops.stages.compress.quantise import quantise, quantise_weights

SETTINGS = "settings.json"
"""What a learner's export tells of the network; it joins the bundle's settings."""
NUMBERS = (MODEL, f"{MODEL}.data")
"""The files that differ between the forms of one network."""
QUANTISERS: dict[Form, Callable[[Path, Path], None]] = {
    "int8": quantise,
    "int8-weights": quantise_weights,
    "int4-weights": partial(quantise_weights, bits=4),
}


@dataclass(frozen=True)
class Spec:
    """What a candidate is: a student or the model itself (`distil` None), in which form of numbers."""

    distil: DistilSection | None
    form: Form

    @property
    def name(self) -> str:
        """Such as float32, int8, int8-weights, distil-3, distil-3-int8."""
        if self.distil is None:
            return self.form
        student = f"distil-{self.distil.layers}"
        return student if self.form == "float32" else f"{student}-{self.form}"


FLOAT32 = Spec(None, "float32")


def asked(section: CompressSection, task: Task) -> list[Any]:
    """The candidates as the config names them, or those that the task has when it names none."""
    return list(task.default_forms) if section.candidates is None else list(section.candidates)


def specs(section: CompressSection, task: Task) -> list[Spec]:
    """The candidates that the config asks for."""
    return [_spec(candidate) for candidate in asked(section, task)]


def _spec(candidate: Form | Candidate) -> Spec:
    if isinstance(candidate, Candidate):
        assert candidate.distil is not None
        return Spec(candidate.distil, "int8" if candidate.distil.int8 else "float32")
    return Spec(None, candidate)


class Workshop:
    """Makes candidates from the trained model of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.dataset = job.inputs["dataset"]
        self.folder = job.room.work / "candidates"

    @cached_property
    def learner(self) -> Any:
        """The trained model; loaded only when something has to be computed with it."""
        learner = self.job.task.learner(self.job.sections["task"], self.job.sections["train"], self.job.seed)
        learner.load(self.job.inputs["model"])
        return learner

    def make(self, spec: Spec) -> Path:
        """The candidate's folder, whole: model.onnx and all that answers with it. Raises DataError when it cannot be
        made."""
        place = self.folder / spec.name
        if place.exists():
            return place
        half = self.folder / f"{spec.name}.tmp"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        if spec.form == "float32":
            (self.student(spec.distil) if spec.distil else self.learner).export(half)
        else:
            source = self.make(Spec(spec.distil, "float32"))
            QUANTISERS[spec.form](source / MODEL, half / MODEL)
            copy_companions(source, half)
        self.job.task.complete(self.job.sections["task"], self.dataset, self.open(half), half)
        for path in tree_files(half):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        half.rename(place)
        fsync_folder(self.folder)
        return place

    def student(self, settings: DistilSection) -> Any:
        """A learner that learnt the trained model's answers; its training carries on after a kill."""
        if not hasattr(self.learner, "distil"):
            raise DataError("a model of this task cannot be distilled", "compress.candidates", "leave `distil` out")
        room = self.job.room
        room.say(f"distilling a student with {settings.layers} layers")
        answers = self.learner.predict(self.dataset, "train")
        work = room.work / f"fit-distil-{settings.layers}"
        return self.learner.distil(self.dataset, answers, settings, work, room)

    def open(self, folder: Path) -> Predictor:
        """A candidate's folder as a bundle that answers, not yet calibrated."""
        bundle_format.write(folder, self.fields(folder))
        return Predictor.open(folder)

    def fields(self, folder: Path) -> dict[str, Any]:
        """What bundle.json needs for answering with the candidate in `folder`."""
        task = self.job.task
        exported = json.loads((folder / SETTINGS).read_bytes()) if (folder / SETTINGS).exists() else {}
        return {
            "task": task.name,
            "task_version": task.version,
            "runtime": task.runtime,
            "settings": {**task.settings(self.job.sections["task"], self.dataset), **exported},
            "cleaning": json.loads((self.dataset / "dataset.json").read_bytes())["cleaning"],
        }

    def hand_over(self, spec: Spec, bundle: Path) -> None:
        """Put the candidate's files into the new folder `bundle`, by links."""
        left_out = shutil.ignore_patterns(bundle_format.MANIFEST, SETTINGS)
        shutil.copytree(self.make(spec), bundle, copy_function=link_or_copy, ignore=left_out)


def copy_companions(source: Path, target: Path) -> None:
    """Give a quantised form what lies beside the float32 numbers. Files are copied, for the task may write its own
    over them; folders (`merged/`) never change and are linked."""
    for path in sorted(source.iterdir()):
        if path.is_dir():
            shutil.copytree(path, target / path.name, copy_function=link_or_copy)
        elif path.name not in (*NUMBERS, bundle_format.MANIFEST):
            shutil.copy2(path, target / path.name)
