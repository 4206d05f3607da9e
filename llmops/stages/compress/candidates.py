"""Makes the candidates: each in a folder of `work`, whole or not at all; a whole one is not made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.bundle.runtimes import MODEL
from llmops.core.artifact import fsync_folder, tree_files
from llmops.core.errors import DataError
from llmops.core.protocols import Job, Task
from llmops.core.run import link_or_copy
from llmops.fields.rows import read_split
from llmops.stages.compress.config import Candidate, CompressSection, DistilSection, Form, PruneSection
from llmops.stages.compress.quantise import quantise, quantise_static, quantise_weights

CALIBRATION_ROWS, CALIBRATION_BATCH = 512, 16
"""Training rows that fix the scales of `int8-static`, so many at a time."""
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
    """What a candidate is: what is taken from the model (nothing: itself), and in which form of numbers."""

    form: Form = "float32"
    distil: DistilSection | None = None
    prune: PruneSection | None = None
    vocabulary: int | None = None

    @property
    def name(self) -> str:
        """Such as float32, int8, distil-3-int8, distil-3-prune-h25-n30-vocabulary-8000-int8."""
        parts = self.student
        if self.vocabulary:
            parts.append(f"vocabulary-{self.vocabulary}")
        return "-".join([*parts, *([self.form] if self.form != "float32" or not parts else [])])

    @property
    def student(self) -> list[str]:
        """The name of what was trained for it, in parts; empty: nothing was."""
        parts = [f"distil-{self.distil.layers}{_lessons(self.distil, 'layers')}"] if self.distil else []
        if self.prune:
            shares = (("h", self.prune.heads), ("n", self.prune.neurons), ("w", self.prune.weights))
            named = "-".join(["prune", *(f"{sign}{share * 100:g}" for sign, share in shares if share)])
            parts.append(f"{named}{_lessons(self.prune, 'heads', 'neurons', 'weights')}")
        return parts

    @property
    def learns(self) -> bool:
        """Whether it is a student, with weights of its own."""
        return self.distil is not None or self.prune is not None

    def plain(self) -> Spec:
        """The same in float32."""
        return replace(self, form="float32")


def _lessons(section: DistilSection | PruneSection, *named: str) -> str:
    """What else a section says beside its defaults, for a name: two students that learn in other ways are two."""
    usual = {name: field.default for name, field in type(section).model_fields.items()}
    told = [f"{name[0]}{value:g}" for name, value in section if name not in named and value != usual[name]]
    return "".join(f"-{one}" for one in told)


FLOAT32 = Spec()
SMALLER = tuple(
    Spec("int8", DistilSection(layers=layers) if layers else None, prune, tokens)
    for layers, prune, tokens in (
        (None, None, 8000), (4, None, 8000), (3, None, 4000), (2, None, 4000),
        (2, PruneSection(heads=0.25, neurons=0.5), 2000),
    )
)  # fmt: skip
"""Ever smaller candidates, tried where the config names none and nothing larger is within the limits."""


def asked(section: CompressSection, task: Task) -> list[Any]:
    """The candidates as the config names them, or those that the task has when it names none."""
    return list(task.default_forms) if section.candidates is None else list(section.candidates)


def specs(section: CompressSection, task: Task) -> list[Spec]:
    """The candidates that the config asks for."""
    return [_spec(candidate) for candidate in asked(section, task)]


def _spec(candidate: Form | Candidate) -> Spec:
    if isinstance(candidate, Candidate):
        return Spec(candidate.form, candidate.distil, candidate.prune, candidate.vocabulary)
    return Spec(candidate)


class Workshop:
    """Makes candidates from the trained model of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.dataset = job.inputs["dataset"]
        self.folder = job.room.work / "candidates"
        self.students: dict[str, Any] = {}

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
            self.shrunk(spec).export(half)
        else:
            source = self.make(spec.plain())
            if spec.form == "int8-static":
                quantise_static(source / MODEL, half / MODEL, self.sample(source))
            else:
                QUANTISERS[spec.form](source / MODEL, half / MODEL)
            copy_companions(source, half)
        self.job.task.complete(self.job.sections["task"], self.dataset, self.open(half), half)
        for path in tree_files(half):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        half.rename(place)
        fsync_folder(self.folder)
        return place

    def shrunk(self, spec: Spec) -> Any:
        """A learner of what the candidate is, in float32."""
        learner = self.student(spec) if spec.learns else self.learner
        return learner if spec.vocabulary is None else _able(learner, "trim")(self.dataset, spec.vocabulary)

    def student(self, spec: Spec) -> Any:
        """A learner that learnt the trained model's answers; its trainings carry on after a kill."""
        name = "-".join(spec.student)
        if name in self.students:
            return self.students[name]
        room = self.job.room
        answers = cache(lambda: self.learner.predict(self.dataset, "train"))
        learner = self.learner
        if spec.distil:
            distil = _able(learner, "distil")
            room.say(f"distilling a student with {spec.distil.layers} layers")
            learner = distil(self.dataset, answers(), spec.distil, room.work / f"fit-{spec.student[0]}", room)
        if spec.prune:
            prune = _able(learner, "prune")
            room.say("pruning, and recovering")
            learner = prune(self.dataset, answers(), spec.prune, room.work / f"fit-{name}", room)
        self.students[name] = learner
        return learner

    def sample(self, folder: Path) -> list[Any]:
        """Batches of training rows, as the candidate in `folder` takes them."""
        codec = self.open(folder).codec
        rows = list(islice(read_split(self.dataset, "train"), CALIBRATION_ROWS))
        requests = [codec.request(row) for row in rows]
        return [codec.encode(requests[at : at + CALIBRATION_BATCH]) for at in range(0, len(rows), CALIBRATION_BATCH)]

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


def _able(learner: Any, verb: str) -> Any:
    """What makes a learner smaller. Raises DataError when it has no such."""
    if not hasattr(learner, verb):
        name = {"trim": "vocabulary"}.get(verb, verb)
        raise DataError(f"a model of this task has no `{name}`", "compress.candidates", f"leave `{name}` out")
    return getattr(learner, verb)


def copy_companions(source: Path, target: Path) -> None:
    """Give a quantised form what lies beside the float32 numbers. Files are copied, for the task may write its own
    over them; folders (`merged/`) never change and are linked."""
    for path in sorted(source.iterdir()):
        if path.is_dir():
            shutil.copytree(path, target / path.name, copy_function=link_or_copy)
        elif path.name not in (*NUMBERS, bundle_format.MANIFEST):
            shutil.copy2(path, target / path.name)
