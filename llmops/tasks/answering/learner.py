"""Answerer: the Learner of question answering: train, predict, save, load, export, probe."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError, LlmopsError
from llmops.core.protocols import Listener, Room
from llmops.engine.checkpoint import write_tensors
from llmops.engine.device import choose_device, seed_everything
from llmops.engine.fit import fit
from llmops.engine.ragged import Ragged
from llmops.engine.summary import summary
from llmops.nets.adapters import merge_lora
from llmops.nets.export import export_onnx
from llmops.nets.tokenizer import pad_id
from llmops.tasks.answering.config import AnsweringSection, AnsweringTrainSection
from llmops.tasks.answering.encoder import ENTRIES
from llmops.tasks.answering.negatives import hard_negatives
from llmops.tasks.answering.network import DualEncoder, blank_network, fresh_network
from llmops.tasks.answering.problem import FrozenPairProblem, PairProblem, Pairs, in_batches
from llmops.tasks.answering.truth import truth

FORMAT = 1


class Answerer:
    """A dual encoder with its tokenizer; `train` or `load` first, the rest after."""

    def __init__(self, section: AnsweringSection, train: AnsweringTrainSection, seed: int) -> None:
        self.section, self.settings, self.seed = section, train, seed
        self.network: DualEncoder | None = None
        self.tokenizer_json = ""

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the data set folder that prepare wrote; carries on from `work` after a kill.

        Returns what engine.summary does, and "parameters".
        """
        began = time.monotonic()
        seed_everything(self.seed)
        problem = self.problem(dataset)
        # building a network draws random numbers; how many must not decide what the training draws
        seed_everything(self.seed)
        setup_s = time.monotonic() - began
        state = fit(problem, self.settings, self.seed, work, room, listener)
        self.keep(problem)
        return {**summary(state, problem, setup_s), "parameters": self.parameters()}

    def problem(self, dataset: Path) -> PairProblem:
        """The pretrained network with the data set's rows, ready for the engine."""
        pairs = self.pairs(dataset)
        if not len(pairs.train) or not len(pairs.valid):
            raise DataError(
                "There are no rows to train or to validate on.",
                str(dataset),
                "give more rows, or a larger `split.valid`.",
            )
        return self.pose(pairs)

    def pairs(self, dataset: Path) -> Pairs:
        """The data set's rows; takes its tokenizer over."""
        try:
            self.tokenizer_json = (dataset / "tokenizer.json").read_text(encoding="utf-8")
        except OSError as problem:
            raise DataError(f"The data set cannot be read: {problem}", str(dataset), "run prepare again.") from problem
        train, valid = truth(dataset, "train"), truth(dataset, "valid")
        return Pairs(
            train=Ragged.read(dataset / "train.safetensors"),
            valid=Ragged.read(dataset / "valid.safetensors"),
            entries=Ragged.read(dataset / ENTRIES),
            right=train.right,
            valid_right=valid.right,
            negatives=hard_negatives(train, self.settings.hard_negatives),
            shares=valid.shares,
        )

    def pose(self, pairs: Pairs) -> PairProblem:
        """The pretrained network with these rows; `pairs` first."""
        kind = FrozenPairProblem if self.settings.method == "frozen" else PairProblem
        network, section = fresh_network(self.settings), self.section
        return kind(network, pairs, self.settings, section.metric, section.lexical, self.pad(), self.device())

    def pad(self) -> int:
        from tokenizers import Tokenizer

        return pad_id(Tokenizer.from_str(self.tokenizer_json))

    def device(self) -> torch.device:
        return choose_device(self.settings.device)

    def keep(self, problem: PairProblem) -> None:
        """Take the trained network over from a problem: whole embedding, adapters melted in."""
        problem.finish()
        problem.network.encoder = merge_lora(problem.network.encoder)
        self.network = problem.network.requires_grad_(True).eval()

    def trained(self) -> DualEncoder:
        if self.network is None:
            raise LlmopsError("an answerer was used before it was trained or loaded")
        return self.network

    def parameters(self) -> int:
        """Weights in the network."""
        return sum(value.numel() for value in self.trained().parameters())

    def predict(self, dataset: Path, split: str) -> np.ndarray:
        """Cosine of each question of a split with each entry of the index, float32 [rows, entries]."""
        asked = self.vectors(Ragged.read(dataset / f"{split}.safetensors"))
        similarity: np.ndarray = asked @ self.vectors(Ragged.read(dataset / ENTRIES)).T
        return similarity

    def vectors(self, data: Ragged) -> np.ndarray:
        """Vectors of encoded texts, float32 [rows, width]."""
        network, device, pad = self.trained().to(self.device()).eval(), self.device(), self.pad()

        def compute(rows: np.ndarray) -> torch.Tensor:
            tokens, mask = data.padded(rows, pad)
            known = torch.from_numpy(tokens).to(device)
            found: torch.Tensor = network(known, None if mask is None else torch.from_numpy(mask).to(device))
            return found

        if not len(data):
            return np.zeros((0, network.head.out_features), np.float32)
        return in_batches(compute, data.lengths)

    def save(self, folder: Path) -> None:
        """Write model.safetensors, model.json, tokenizer.json and the encoder's config.json."""
        network = self.trained()
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "model.safetensors", {name: value.cpu() for name, value in network.state_dict().items()})
        write_whole(folder / "tokenizer.json", self.tokenizer_json)
        write_whole(folder / "config.json", network.encoder.config.to_json_string(use_diff=False))
        about = {"format": FORMAT, "model": self.settings.model, "train": self.settings.plain()}
        write_json(folder / "model.json", about)

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
            self.settings = AnsweringTrainSection(**about["train"])
            self.tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
            network = blank_network(json.loads((folder / "config.json").read_bytes()), self.settings.pooling)
            network.load_state_dict(load_file(folder / "model.safetensors"))
        except DataError:
            raise
        except Exception as problem:
            raise DataError(f"The model cannot be read: {problem}", str(folder), "run train again.") from problem
        self.network = network.eval()

    def export(self, folder: Path) -> list[Path]:
        """Write what a float32 bundle encodes questions with: model.onnx (int64 tokens and mask [batch, length] ->
        float32 vectors [batch, width]) and tokenizer.json."""
        folder.mkdir(parents=True, exist_ok=True)
        model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
        export_onnx(self.trained(), model, "vectors")
        write_whole(tokenizer, self.tokenizer_json)
        return [model, tokenizer]

    def probe(self, source: Path, seconds: float, room: Room) -> dict[str, float]:
        """What the training would take here, from a few real steps; see probe.py."""
        from llmops.tasks.answering.probe import probe

        return probe(self, source, seconds, room)
