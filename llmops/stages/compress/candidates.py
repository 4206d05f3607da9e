"""Makes the candidates: each in a folder of `work`, whole or not at all; a whole one is not made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmops.core.artifact import fsync_folder
from llmops.core.protocols import Job
from llmops.core.run import link_or_copy
from llmops.stages.compress.config import Candidate, CompressSection, DistilSection, Form
from llmops.stages.compress.quantise import quantise, quantise_weights

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
QUANTISERS: dict[Form, Callable[[Path, Path], None]] = {"int8": quantise, "int8-weights": quantise_weights}


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


def specs(section: CompressSection) -> list[Spec]:
    """The candidates that the config asks for."""
    return [_spec(candidate) for candidate in section.candidates]


def _spec(candidate: Form | Candidate) -> Spec:
    if isinstance(candidate, Candidate):
        assert candidate.distil is not None
        return Spec(candidate.distil, "int8" if candidate.distil.int8 else "float32")
    return Spec(None, candidate)


class Workshop:
    """Makes candidates from the trained model of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder = job.room.work / "candidates"

    @cached_property
    def learner(self) -> Any:
        """The trained model; loaded only when something has to be computed with it."""
        learner = self.job.task.learner(self.job.sections["task"], self.job.sections["train"], self.job.seed)
        learner.load(self.job.inputs["model"])
        return learner

    def make(self, spec: Spec) -> Path:
        """The candidate's folder, with model.onnx and tokenizer.json. Raises DataError when it cannot be made."""
        place = self.folder / spec.name
        if place.exists():
            return place
        half = self.folder / f"{spec.name}.tmp"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        if spec.form in QUANTISERS:
            QUANTISERS[spec.form](self.make(Spec(spec.distil, "float32")) / MODEL, half / MODEL)
        else:
            (self.student(spec.distil) if spec.distil else self.learner).export(half)
        shutil.copy2(self.job.inputs["model"] / TOKENIZER, half / TOKENIZER)
        for path in half.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        half.rename(place)
        fsync_folder(self.folder)
        return place

    def student(self, settings: DistilSection) -> Any:
        """A learner that learnt the trained model's answers; its training carries on after a kill."""
        dataset, room = self.job.inputs["dataset"], self.job.room
        room.say(f"distilling a student with {settings.layers} layers")
        answers = self.learner.predict(dataset, "train")
        work = room.work / f"fit-distil-{settings.layers}"
        return self.learner.distil(dataset, answers, settings, work, room)

    def hand_over(self, spec: Spec, bundle: Path) -> None:
        """Put the candidate's files into the bundle, by links."""
        bundle.mkdir(parents=True)
        for name in (MODEL, TOKENIZER):
            link_or_copy(str(self.make(spec) / name), str(bundle / name))
