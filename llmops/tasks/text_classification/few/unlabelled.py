"""Texts without labels: before the few rows, the encoder learns to know the team's texts by two views of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmops.core.protocols import Room
from llmops.engine.device import seed_everything
from llmops.engine.fit import Loop, batch_size, fit
from llmops.engine.probe import time_steps
from llmops.engine.ragged import Ragged, joined, taken
from llmops.nets.adapters import merge_lora
from llmops.nets.pooling import drop_tokens
from llmops.tasks.text_classification.config import TextTrainSection
from llmops.tasks.text_classification.encoder import UNLABELLED
from llmops.tasks.text_classification.few.contrast import contrastive_loss
from llmops.tasks.text_classification.networks import fresh_network
from llmops.tasks.text_classification.problem import Batch, PretrainedProblem

if TYPE_CHECKING:
    from llmops.tasks.text_classification.classifier import Classifier

LEFT_OUT = 0.2
"""Share of its tokens that a view of a text lacks."""
BATCH_SIZE = 64
"""Texts that are told apart at once: the more, the harder, so not the batches of the training."""


class UnlabelledProblem(PretrainedProblem):
    """Each text is told from the others of its batch by two views of it. The head learns nothing."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        assert self.settings.few is not None
        self.temperature = self.settings.few.temperature
        self.network.head.requires_grad_(False)

    def cells(self, rows: np.ndarray) -> int:
        return 2 * super().cells(rows)

    def loss(self, batch: Batch) -> Tensor:
        views = [drop_tokens(batch.mask, batch.tokens, LEFT_OUT) for _ in range(2)]
        pooled = self.network.pooled(batch.tokens.repeat(2, 1), torch.cat(views))
        same = torch.arange(len(batch.tokens), device=pooled.device).repeat(2)
        return contrastive_loss(functional.normalize(pooled.float(), dim=-1), same, self.temperature)


def learn_unlabelled(classifier: Classifier, dataset: Path, work: Path, room: Room) -> dict[str, Any]:
    """Train the encoder on the data set's texts without labels and its training texts, and have the classifier's next
    trainings start from it (`classifier.start`). Carries on from `work` after a kill.

    Returns {"unlabelled_rows", "unlabelled_s", "peak_memory_mb"}; nothing where there is nothing to learn.
    """
    classifier.start = None
    texts = unlabelled(classifier, dataset)
    if texts is None:
        return {}
    room.say(f"reading {len(texts):,} texts without labels")
    problem = pose(classifier, dataset, texts)
    seed_everything(classifier.seed)
    state = fit(problem, problem.settings, classifier.seed, work, room)
    problem.finish()
    classifier.start = merge_lora(problem.network.encoder).cpu().requires_grad_(False)
    return {"unlabelled_rows": len(texts), "unlabelled_s": state.seconds, "peak_memory_mb": state.peak_memory_mb}


def with_unlabelled(found: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What a training tells (`found`), and what the part before it did."""
    if not before:
        return found
    took = before["unlabelled_s"]
    peak = max(found["peak_memory_mb"], before["peak_memory_mb"])
    spent = {"texts without labels": took, **found["spent"]}
    return {**found, **before, "peak_memory_mb": peak, "seconds": found["seconds"] + took, "spent": spent}


def foreseen_s(classifier: Classifier, dataset: Path, work: Path, seconds: float, room: Room) -> float:
    """Seconds that `learn_unlabelled` will take, from real steps for about `seconds`."""
    texts = unlabelled(classifier, dataset)
    if texts is None:
        return 0.0
    problem = pose(classifier, dataset, texts)
    loop = Loop(problem, problem.settings, classifier.seed, work, room)
    fixed, each, _ = time_steps(loop, seconds, room)
    batches = problem.plan(batch_size(loop.settings), classifier.seed, 1)
    return problem.settings.epochs * (fixed * len(batches) + each * sum(map(problem.cells, batches)))


def unlabelled(classifier: Classifier, dataset: Path) -> Ragged | None:
    """The data set's texts without labels, of very many some; None where there are none, or nothing would learn."""
    few, path = classifier.settings.few, dataset / UNLABELLED
    if few is None or not few.unlabelled_epochs or classifier.settings.method == "frozen" or not path.exists():
        return None
    texts = Ragged.read(path)
    if len(texts) <= few.unlabelled_rows:
        return texts
    chance = np.random.Generator(np.random.PCG64(classifier.seed))
    return taken(texts, np.sort(chance.permutation(len(texts))[: few.unlabelled_rows]))


def pose(classifier: Classifier, dataset: Path, texts: Ragged) -> UnlabelledProblem:
    """The pretrained encoder with these texts and the training texts, as the engine takes it."""
    classifier.adopt(dataset)
    seed_everything(classifier.seed)
    rows = joined(texts, Ragged.read(dataset / "train.safetensors"))
    settings = of_phase(classifier.settings)
    network = fresh_network(settings, classifier.plan)
    none = taken(rows, np.zeros(0, np.int64))
    made = classifier.posed(UnlabelledProblem, network, rows, none, settings)
    assert isinstance(made, UnlabelledProblem)
    return made


def of_phase(train: TextTrainSection) -> TextTrainSection:
    """The settings of this part of the training."""
    assert train.few is not None
    changes = {"epochs": train.few.unlabelled_epochs, "learning_rate": train.few.unlabelled_rate}
    usual = {"batch_size": BATCH_SIZE, "steps": None, "patience": 0, "class_weights": "none"}
    return train.model_copy(update={**changes, **usual})
