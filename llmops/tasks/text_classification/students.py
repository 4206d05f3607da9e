"""Smaller classifiers made of a trained one: fewer layers, fewer heads and neurons, fewer tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from llmops.core.errors import DataError
from llmops.core.protocols import Room
from llmops.engine.device import seed_everything
from llmops.engine.fit import fit
from llmops.engine.ragged import Ragged
from llmops.nets.build import PRETRAINED
from llmops.nets.encoder import PretrainedClassifier
from llmops.nets.pruning import importance, layers_of, shrink, thin
from llmops.nets.slicing import evenly_spaced, layer_list, shallower
from llmops.nets.vocabulary import kept_tokens, trimmed_network, trimmed_tokenizer
from llmops.tasks.text_classification.classifier import Classifier
from llmops.tasks.text_classification.problem import DistilProblem, States, tensors

LAYERED = (PRETRAINED, "transformer")
BATCH = 32
MOST_BATCHES = 32
"""Batches of training rows that importance is measured on."""
WHERE = "compress.candidates"


class Lessons(Protocol):
    """How a student learns."""

    @property
    def epochs(self) -> int: ...
    @property
    def temperature(self) -> float: ...


class DistilSettings(Lessons, Protocol):
    """What compress's block `distil` offers."""

    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> float: ...


class PruneSettings(Lessons, Protocol):
    """What compress's block `prune` offers."""

    @property
    def heads(self) -> float: ...
    @property
    def neurons(self) -> float: ...
    @property
    def weights(self) -> float: ...


def distil(
    teacher: Classifier, dataset: Path, logits: np.ndarray, section: DistilSettings, work: Path, room: Room
) -> Classifier:
    """A student with `section.layers` evenly spaced layers of the teacher (Sanh et al. 2019), trained on softened
    answers and labels, and towards the teacher's hidden states (Jiao et al. 2020).

    `logits` is the teacher's float32 [train rows, classes]. DataError when the teacher has no layers to
    leave out. Carries on from `work` after a kill.
    """
    plan = dict(teacher.plan)
    if plan["kind"] not in LAYERED:
        raise DataError(f"A {plan['kind']} has no layers to leave out.", WHERE, "take `int8` instead of `distil`.")
    try:
        network: Any = shallower(teacher.trained(), section.layers)
    except ValueError as error:
        what = f"A student with {section.layers} layers cannot be made: {error}."
        raise DataError(what, WHERE, "ask for fewer layers.") from error
    if plan["kind"] == PRETRAINED:
        network.encoder.config.num_hidden_layers = section.layers
    else:
        plan["layers"] = section.layers
    student = like(teacher, network, plan)
    states = states_of(teacher, section.layers, section.hidden)
    learn(student, dataset, logits, section, states, work, room)
    return student


def prune(
    teacher: Classifier, dataset: Path, logits: np.ndarray, section: PruneSettings, work: Path, room: Room
) -> Classifier:
    """A student without the heads and neurons that matter least on training rows, after a short training that recovers
    what it lost. `weights` zeroes the smallest weights of all products, which makes nothing smaller or quicker here.

    As `distil`, and DataError when the network has no such parts.
    """
    student = like(teacher, copy.deepcopy(teacher.trained()), dict(teacher.plan))
    if section.heads or section.neurons:
        cut(student, dataset, section)
        learn(student, dataset, logits, section, None, work, room)
    thin(student.trained(), section.weights)
    return student


def trim(teacher: Classifier, dataset: Path, most: int) -> Classifier:
    """The classifier with about `most` tokens: those of the training and validation rows, the alphabet, and the
    commonest. DataError for a network without a pretrained encoder, or a tokenizer that cannot be trimmed."""
    network = teacher.trained()
    if not isinstance(network, PretrainedClassifier):
        what = f"The vocabulary of a {teacher.plan['kind']} is made for its data already."
        raise DataError(what, WHERE, "leave `vocabulary` out.")
    used = np.concatenate([Ragged.read(dataset / f"{split}.safetensors").tokens for split in ("train", "valid")])
    try:
        kept = kept_tokens(teacher.tokenizer_json, used, most)
    except ValueError as error:
        raise DataError(f"The vocabulary cannot be trimmed: {error}.", WHERE, "leave `vocabulary` out.") from error
    student = like(teacher, trimmed_network(network, kept), dict(teacher.plan))
    student.tokenizer_json = trimmed_tokenizer(teacher.tokenizer_json, kept)
    student.network = student.trained().eval()
    return student


def like(teacher: Classifier, network: nn.Module, plan: dict[str, Any]) -> Classifier:
    """A classifier as the teacher is, with another network."""
    settings = teacher.settings.model_copy(update={"method": "full"})
    student = type(teacher)(teacher.section, settings, teacher.seed)
    student.network, student.plan = network, plan
    student.labels, student.tokenizer_json = teacher.labels, teacher.tokenizer_json
    return student


def cut(student: Classifier, dataset: Path, section: PruneSettings) -> None:
    """Take heads and neurons out of an untrained student."""
    network = student.trained()
    if not isinstance(network, PretrainedClassifier):
        what = f"A {student.plan['kind']} has no heads and neurons that can be left out."
        raise DataError(what, WHERE, "take `int8` instead of `prune`.")
    try:
        layers = layers_of(network.encoder, network.encoder.config.num_attention_heads)
    except ValueError as error:
        raise DataError(f"The encoder cannot be pruned: {error}.", WHERE, "leave `prune` out.") from error
    train = Ragged.read(dataset / "train.safetensors")
    shrink(layers, importance(layers, losses(student, train), network), section.heads, section.neurons)


def losses(student: Classifier, train: Ragged) -> Iterator[Callable[[], Tensor]]:
    """The losses of some batches of training rows, without dropout."""
    objective = student.objective(train.labels, student.settings, torch.device("cpu"))
    network, pad = student.trained().cpu().eval(), student.pad()
    order = np.random.Generator(np.random.PCG64(student.seed)).permutation(len(train))
    for start in range(0, min(len(train), BATCH * MOST_BATCHES), BATCH):
        rows = order[start : start + BATCH]
        yield partial(lambda rows: objective.loss(network(*tensors(train, rows, pad)), rows), rows)


def states_of(teacher: Classifier, layers: int, weight: float) -> States | None:
    """The teacher's hidden states that a student with so many of its layers is drawn to."""
    network = teacher.trained()
    found = layer_list(network)
    if not weight or found is None or not isinstance(network, PretrainedClassifier):
        return None
    after = [place + 1 for place in evenly_spaced(len(found[2]), layers)]  # state 0 is the embedding's
    return States(network, after, weight, teacher.pad())


def learn(
    student: Classifier, dataset: Path, logits: np.ndarray, lessons: Lessons, states: States | None, work: Path,
    room: Room,
) -> None:  # fmt: skip
    """Train a student on the teacher's answers; carries on from `work` after a kill."""
    seed_everything(student.seed)
    settings = student.settings.model_copy(update={"epochs": lessons.epochs})
    train, valid = (Ragged.read(dataset / f"{split}.safetensors") for split in ("train", "valid"))
    problem = student.posed(DistilProblem, student.trained(), train, valid, settings)
    assert isinstance(problem, DistilProblem)
    problem.teacher = torch.from_numpy(logits.astype(np.float32)).to(problem.device)
    problem.temperature, problem.states = lessons.temperature, states
    # the head is not new, so it learns no faster than the layers
    problem.head_rate = settings.learning_rate
    state = fit(problem, settings, student.seed, work, room)
    student.keep(problem)
    room.say(f"the student: {student.section.metric} {state.best:.4f} on validation")
