"""Distils a classifier into one with fewer layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from llmops.core.errors import DataError
from llmops.core.protocols import Room
from llmops.engine.device import seed_everything
from llmops.engine.fit import fit
from llmops.engine.ragged import Ragged
from llmops.nets.build import PRETRAINED
from llmops.nets.slicing import shallower
from llmops.tasks.text_classification.classifier import Classifier
from llmops.tasks.text_classification.problem import DistilProblem

LAYERED = (PRETRAINED, "transformer")


class DistilSettings(Protocol):
    """What compress's section offers."""

    layers: int
    epochs: int
    temperature: float


def distil(
    teacher: Classifier, dataset: Path, teacher_logits: np.ndarray, section: DistilSettings, work: Path, room: Room
) -> Classifier:
    """A student with `section.layers` evenly spaced layers of the teacher, trained on softened answers and labels.

    `teacher_logits` is the teacher's float32 [train rows, classes]. DataError when the teacher has no layers to
    leave out. Carries on from `work` after a kill.
    """
    seed_everything(teacher.seed)
    student = student_of(teacher, section.layers, section.epochs)
    train, valid = (Ragged.read(dataset / f"{split}.safetensors") for split in ("train", "valid"))
    problem = DistilProblem(
        student.trained(), train, valid, student.settings, student.section.metric, student.pad(), student.device(),
        student.objective,
    )  # fmt: skip
    problem.teacher = torch.from_numpy(teacher_logits.astype(np.float32)).to(problem.device)
    problem.temperature = section.temperature
    # the head is not new, so it learns no faster than the layers
    problem.head_rate = student.settings.learning_rate
    state = fit(problem, student.settings, student.seed, work, room)
    student.keep(problem)
    room.say(f"student with {section.layers} layers: {student.section.metric} {state.best:.4f} on validation")
    return student


def student_of(teacher: Classifier, layers: int, epochs: int) -> Classifier:
    """An untrained student: a shallower copy of the teacher's network, to be trained in full."""
    plan = dict(teacher.plan)
    if plan["kind"] not in LAYERED:
        raise DataError(
            f"A {plan['kind']} has no layers to leave out.", "compress.candidates", "take `int8` instead of `distil`."
        )
    try:
        network: Any = shallower(teacher.trained(), layers)
    except ValueError as problem:
        raise DataError(
            f"A student with {layers} layers cannot be made: {problem}.", "compress.candidates", "ask for fewer layers."
        ) from problem
    if plan["kind"] == PRETRAINED:
        network.encoder.config.num_hidden_layers = layers
    else:
        plan["layers"] = layers
    settings = teacher.settings.model_copy(update={"epochs": epochs, "method": "full"})
    student = type(teacher)(teacher.section, settings, teacher.seed)
    student.network, student.plan, student.labels, student.tokenizer_json = (
        network,
        plan,
        teacher.labels,
        teacher.tokenizer_json,
    )
    return student
