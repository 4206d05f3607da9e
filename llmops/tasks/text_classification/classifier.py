"""Classifier: a network with its labels and tokenizer: train, predict, save, load, export."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError, LlmopsError
from llmops.core.protocols import Listener, Room
from llmops.engine.checkpoint import write_tensors
from llmops.engine.device import choose_device, seed_everything
from llmops.engine.fit import fit
from llmops.engine.ragged import Ragged
from llmops.engine.state import State
from llmops.engine.summary import summary
from llmops.nets.adapters import merge_lora
from llmops.nets.build import PRETRAINED, build
from llmops.nets.encoder import PretrainedClassifier
from llmops.nets.export import export_onnx
from llmops.nets.tokenizer import pad_id
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.encoder import TextEncoder
from llmops.tasks.text_classification.few.problem import FewProblem, FrozenFewProblem
from llmops.tasks.text_classification.few.refit import refit
from llmops.tasks.text_classification.few.unlabelled import learn_unlabelled, with_unlabelled
from llmops.tasks.text_classification.networks import architecture, fresh_network
from llmops.tasks.text_classification.objective import Objective, OneLabel
from llmops.tasks.text_classification.problem import FrozenProblem, TextProblem, score, tensors
from llmops.tasks.text_classification.update import Before, Hold, Holding, slowed, unfit

FORMAT = 1
UNSEEN = "unseen.safetensors"
"""Beside a model that learnt the validation rows in the end: the answers to them of the one before."""


class Classifier:
    """A text classifier; `train` or `load` first, the rest after."""

    gives: Literal["one", "many"] = "one"
    """How many labels a text may have."""
    objective: ClassVar[type[Objective]] = OneLabel
    hold: ClassVar[Callable[..., Holding]] = Hold.to
    encoder: ClassVar[type[TextEncoder]] = TextEncoder

    def __init__(self, section: TextClassificationSection, train: TextTrainSection, seed: int) -> None:
        self.section, self.settings, self.seed = section, train, seed
        self.network: nn.Module | None = None
        self.plan: dict[str, Any] = {}
        """The network's architecture."""
        self.labels: list[str] = []
        self.tokenizer_json = ""
        self.base: Classifier | None = None
        """The champion, where the next training is an update of it."""
        self.start: nn.Module | None = None
        """The encoder that trainings start from, where it learnt texts without labels: else the pretrained one."""
        self.unseen: np.ndarray | None = None
        """Logits to the validation rows, float32 [rows, labels], of the model before `few.refit` showed them to it."""

    def begin_from(self, folder: Path) -> str:
        """Have the next training start from the model in `folder`; else in words why it cannot."""
        base = type(self)(self.section, self.settings, self.seed)
        base.load(folder)
        if base.gives != self.gives:
            return f"it gives `labels: {base.gives}`, and the config asks for `labels: {self.gives}`"
        if base.unseen is not None:
            return "it learnt the validation rows too (`few.refit`)"
        if reason := unfit(base.settings, self.settings):
            return reason
        self.base = base
        return ""

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the data set folder that prepare wrote; carries on from `work` after a kill.

        Returns what engine.summary does, "parameters" and, where `few` asks for it, what learn_unlabelled and refit do.
        A listener that stops the training stops it all.
        """
        before = learn_unlabelled(self, dataset, work / "unlabelled", room)
        heard = Heard(listener)
        problem, state, setup_s = self.fitted(lambda: self.problem(dataset), work, room, heard)
        found = with_unlabelled({**summary(state, problem, setup_s), "parameters": self.parameters()}, before)
        if self.settings.few is None or not self.settings.few.refit or heard.stopped:
            return found
        if not tested(dataset):
            room.say("there is no test row: validation rows stay the judges, and no last training learns them")
            return found
        # where no epoch may end it early, the last one is as the config wants it
        epochs = state.best_epoch if self.settings.patience else self.settings.epochs
        again = refit(self, dataset, work / "refit", room, epochs)
        return {**found, **again, "seconds": found["seconds"] + again["refit_s"]}

    def fitted(
        self, posed: Callable[[], TextProblem], work: Path, room: Room, listener: Listener | None = None
    ) -> tuple[TextProblem, State, float]:
        """Train the network of the problem that `posed` makes, and keep it; the problem, where its training stands, and
        the seconds that it took to make it."""
        began = time.monotonic()
        seed_everything(self.seed)
        problem = posed()
        # building a network draws random numbers; how many must not decide what the training draws
        seed_everything(self.seed)
        setup_s = time.monotonic() - began
        state = fit(problem, problem.settings, self.seed, work, room, listener)
        self.keep(problem)
        return problem, state, setup_s

    def problem(self, dataset: Path) -> TextProblem:
        """The fresh network with the data set's rows, ready for the engine."""
        self.adopt(dataset)
        train, valid = (Ragged.read(dataset / f"{split}.safetensors") for split in ("train", "valid"))
        if not len(train) or not (valid.labels >= 0).any():
            raise DataError(
                "There are no rows to train or to validate on.",
                str(dataset),
                "give more rows, or a larger `split.valid`.",
            )
        return self.pose(train, valid)

    def pose(self, train: Ragged, valid: Ragged, **changes: int) -> TextProblem:
        """The fresh network with these rows; `adopt` first. `changes` are made to the settings."""
        kind, settings = problem_of(self.settings), self.settings.model_copy(update=changes)
        if self.base is None:
            return self.posed(kind, fresh_network(settings, self.plan, self.start), train, valid, settings)
        return self.pose_update(kind, self.base, train, valid)

    def pose_update(self, kind: type[TextProblem], base: Classifier, train: Ragged, valid: Ragged) -> TextProblem:
        """The champion's network with these rows, held to what it answers right."""
        settings = slowed(self.settings)
        assert settings.update is not None
        before = Before(base.trained(), base.labels)
        network = fresh_network(settings, self.plan, before.network.encoder)
        before.hand_down_head(network.head, self.labels)
        problem = self.posed(kind, network, train, valid, settings)
        if settings.update.hold:
            problem.hold = self.hold(settings.update, before, self.labels, base.score(train), problem.objective.labels)
        self.base = None  # its weights are not needed any more
        return problem

    def posed(
        self, kind: type[TextProblem], network: nn.Module, train: Ragged, valid: Ragged, settings: TextTrainSection
    ) -> TextProblem:
        """A network with these rows as the engine takes it."""
        metric, pad, device = self.section.metric, self.pad(), self.device()
        return kind(network, train, valid, settings, metric, pad, device, self.objective)

    def adopt(self, dataset: Path) -> None:
        """Take over a data set's labels and tokenizer, and plan the network for them."""
        try:
            self.labels = json.loads((dataset / "labels.json").read_bytes())
            self.tokenizer_json = (dataset / "tokenizer.json").read_text(encoding="utf-8")
        except (OSError, ValueError) as problem:
            raise DataError(f"The data set cannot be read: {problem}", str(dataset), "run prepare again.") from problem
        self.plan = architecture(
            self.settings, self.tokenizer().get_vocab_size(), len(self.labels), self.section.max_tokens
        )

    def tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.tokenizer_json)

    def pad(self) -> int:
        return pad_id(self.tokenizer())

    def device(self) -> torch.device:
        return choose_device(self.settings.device)

    def keep(self, problem: TextProblem) -> None:
        """Take the trained network over from a problem: whole embedding, adapters melted in."""
        problem.finish()
        network = problem.network
        if isinstance(network, PretrainedClassifier):
            network.encoder = merge_lora(network.encoder)
        self.network = network.requires_grad_(True).eval()

    def trained(self) -> nn.Module:
        if self.network is None:
            raise LlmopsError("a classifier was used before it was trained or loaded")
        return self.network

    def parameters(self) -> int:
        """Weights in the network."""
        return sum(value.numel() for value in self.trained().parameters())

    def predict(self, dataset: Path, split: str) -> np.ndarray:
        """Logits for a split of a data set, float32 [rows, labels], in the split's order."""
        return self.score(Ragged.read(dataset / f"{split}.safetensors"))

    def score(self, data: Ragged) -> np.ndarray:
        """Logits for encoded rows, float32 [rows, classes]."""
        network, device, pad = self.trained().to(self.device()).eval(), self.device(), self.pad()

        def answer(rows: np.ndarray) -> torch.Tensor:
            return network(*tensors(data, rows, pad, device))

        return score(answer, data.lengths) if len(data) else np.zeros((0, len(self.labels)), np.float32)

    def save(self, folder: Path) -> None:
        """Write model.safetensors, model.json, tokenizer.json and, for a pretrained encoder, its config.json."""
        network = self.trained()
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "model.safetensors", {name: value.cpu() for name, value in network.state_dict().items()})
        write_whole(folder / "tokenizer.json", self.tokenizer_json)
        if isinstance(network, PretrainedClassifier):
            write_whole(folder / "config.json", network.encoder.config.to_json_string(use_diff=False))
        if self.unseen is not None:
            write_tensors(folder / UNSEEN, {"logits": torch.from_numpy(self.unseen)})
        write_json(
            folder / "model.json",
            {
                "format": FORMAT,
                "model": self.settings.model,
                "train": self.settings.plain(),
                "gives": self.gives,
                "labels": self.labels,
                "architecture": self.plan,
            },
        )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; needs no hub. Raises DataError when it is missing, torn or newer than this llmops."""
        from safetensors.torch import load_file

        try:
            about = json.loads((folder / "model.json").read_bytes())
            if about["format"] > FORMAT:
                raise DataError(
                    f"The model has format {about['format']}, this llmops knows {FORMAT}.",
                    str(folder),
                    "upgrade llmops.",
                )
            self.settings = TextTrainSection(**about["train"])
            self.labels, self.plan, self.gives = about["labels"], about["architecture"], about.get("gives", "one")
            self.tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
            config = json.loads((folder / "config.json").read_bytes()) if self.plan["kind"] == PRETRAINED else None
            network = build(self.plan, config)
            network.load_state_dict(load_file(folder / "model.safetensors"))
            self.unseen = load_file(folder / UNSEEN)["logits"].numpy() if (folder / UNSEEN).exists() else None
        except DataError:
            raise
        except Exception as problem:
            raise DataError(f"The model cannot be read: {problem}", str(folder), "run train again.") from problem
        self.network = network.eval()

    def export(self, folder: Path) -> list[Path]:
        """Write what a float32 bundle answers with: model.onnx (int64 tokens and mask [batch, length] -> float32
        logits) and tokenizer.json."""
        folder.mkdir(parents=True, exist_ok=True)
        model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
        export_onnx(self.trained(), model)
        write_whole(tokenizer, self.tokenizer_json)
        return [model, tokenizer]


class Heard:
    """A listener, or none, of which it is known whether it stopped the training."""

    def __init__(self, listener: Listener | None) -> None:
        self.listener, self.stopped = listener, False

    def __call__(self, epoch: int, metrics: dict[str, float]) -> bool:
        self.stopped = self.listener is not None and bool(self.listener(epoch, metrics))
        return self.stopped


def tested(dataset: Path) -> bool:
    """Whether a data set has test rows."""
    path = dataset / "test.safetensors"
    return path.exists() and len(Ragged.read(path)) > 0


def problem_of(settings: TextTrainSection) -> type[TextProblem]:
    """What the engine trains with these settings."""
    frozen = settings.method == "frozen"
    if settings.few is not None:
        return FrozenFewProblem if frozen else FewProblem
    return FrozenProblem if frozen else TextProblem
