"""GenerationModel: a causal network with its tokenizer: train, predict, write, save, load, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmops.core.artifact import tree_files, write_json
from llmops.core.errors import DataError, LlmopsError
from llmops.core.protocols import Listener, Room
from llmops.engine.device import choose_device, seed_everything
from llmops.engine.fit import fit
from llmops.engine.state import State
from llmops.engine.summary import summary
from llmops.nets.adapters import add_lora, merge_lora
from llmops.nets.causal import CausalReader, fresh_llama, load_causal, save_causal
from llmops.nets.pretrained import find
from llmops.tasks.text_generation.assess import Answers, language_figures, per_window, preference_figures
from llmops.tasks.text_generation.config import GenerationTrainSection, TextGenerationSection
from llmops.tasks.text_generation.modelfolder import FORMAT, Companions
from llmops.tasks.text_generation.packing import Encoded
from llmops.tasks.text_generation.preferences import PreferenceProblem
from llmops.tasks.text_generation.problem import Reading, WritingProblem, raw_answers
from llmops.tasks.text_generation.windows import windows
from llmops.tasks.text_generation.writer import Written, write

Array = np.ndarray[Any, Any]
Problem = WritingProblem | PreferenceProblem

MERGED = "merged"
"""The folder within a candidate with the model as transformers reads it."""
SETTINGS = "settings.json"
"""What compress takes into the bundle's settings."""


class GenerationModel:
    """A model that writes; `train` or `load` first, the rest after."""

    def __init__(self, section: TextGenerationSection, train: GenerationTrainSection, seed: int) -> None:
        self.section, self.settings, self.seed = section, train, seed
        self.network: Any = None
        self.companions: Companions | None = None

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the data set folder that prepare wrote; carries on from `work` after a kill.

        `train.pretrain_epochs` come first, with checkpoints of their own. Returns what engine.summary does (of the last
        phase; "seconds" are those of all), and "parameters"; with pretraining also "pretrain" (its history).
        """
        began = time.monotonic()
        seed_everything(self.seed)
        self.adopt(dataset)
        network = self.fresh()
        before = self.pretrain(network, dataset, work / "pretrain", room) if self.settings.pretrain_epochs else None
        problem = self.pose(network, dataset)
        # what came before draws random numbers; how many must not decide what the training draws
        seed_everything(self.seed)
        setup_s = time.monotonic() - began
        state = fit(problem, self.settings, self.seed, work, room, listener)
        self.keep(problem)
        found = {**summary(state, problem, setup_s), "parameters": self.parameters()}
        return found if before is None else {**found, "pretrain": before.history}

    def pretrain(self, network: Any, dataset: Path, work: Path, room: Room) -> State:
        """The first phase: loss on every token of the conversations."""
        room.say(f"{self.settings.pretrain_epochs} epochs with loss on every token come first")
        train, valid = (everything(Encoded.read(dataset, split)) for split in ("train", "valid"))
        settings = self.settings.model_copy(
            update={"epochs": self.settings.pretrain_epochs, "steps": None, "patience": 0}
        )
        figures: Callable[[Answers], dict[str, float]] = lambda found: {"loss": -float(found["logp"].mean())}  # noqa: E731
        problem = WritingProblem(network, train, valid, self.reading(), settings, "loss", self.device(), figures)
        seed_everything(self.seed)
        return fit(problem, settings, self.seed, work, room)

    def adopt(self, dataset: Path) -> None:
        """Take over a data set's tokenizer and facts."""
        self.companions = Companions.of_dataset(dataset)

    def fresh(self) -> Any:
        """The network as training begins: random, or pretrained, with adapters where wanted."""
        settings, known = self.settings, self.known()
        if not settings.pretrained:
            shape = (settings.width, settings.layers, settings.heads, settings.feed_forward)
            facts = known.facts
            return fresh_llama(
                facts["vocabulary"],
                *shape,
                facts["context"],
                known.end_tokens,
                facts["pad_token"],
                facts["begin_token"],
            )
        network = load_causal(find(settings.model), settings.dropout)
        if network.get_input_embeddings().num_embeddings < known.facts["vocabulary"]:
            raise DataError(
                f"The model in {settings.model} knows fewer tokens than its tokenizer.",
                "train.model",
                "give a folder whose tokenizer belongs to the model.",
            )
        if settings.method == "lora":
            network = add_lora(network, settings.lora.rank, settings.lora.alpha, settings.lora.dropout)
        return network

    def pose(self, network: Any, dataset: Path) -> Problem:
        """The network with the data set's rows, ready for the engine; `adopt` first."""
        train, valid = (Encoded.read(dataset, split) for split in ("train", "valid"))
        if not train.trained.any() or not valid.trained.any():
            raise DataError(
                "There is nothing to train or to validate on.", str(dataset), "give more rows, or a larger split.valid."
            )
        return self.problem(network, train, valid, dataset)

    def problem(self, network: Any, train: Encoded, valid: Encoded, dataset: Path) -> Problem:
        """`train` and `valid` are the data set's splits; the reference of preferences is computed here."""
        seen = windows(dataset, "valid")
        share = self.known().facts["bytes_per_token"]["valid"]
        common = (self.reading(), self.settings, self.section.metric_name, self.device())
        if self.section.objective != "preferences":
            return WritingProblem(network, train, valid, *common, lambda found: language_figures(seen, found, share))
        self.refer(network, dataset)

        def figures(found: Answers) -> dict[str, float]:
            with_reference = {**found, "reference_logp": self.known().reference["valid"]}
            return {
                **language_figures(seen, found, share),
                **preference_figures(seen, with_reference, self.settings.beta),
            }

        return PreferenceProblem(network, train, valid, self.known().reference["train"], *common, figures)

    def refer(self, network: Any, dataset: Path) -> None:
        """Compute what the untrained model gives each row of each split, which the trained one can no longer say."""
        known, device = self.known(), self.device()
        reader = CausalReader(network.to(device).eval())
        for split in ("train", "valid", "test"):
            if not (dataset / f"{split}.safetensors").is_file():
                continue
            found = raw_answers(reader, Encoded.read(dataset, split), self.reading(), device)
            known.reference[split] = per_window(windows(dataset, split), found["logp"]).astype(np.float32)

    def reading(self) -> Reading:
        facts = self.known().facts
        return Reading(facts["context"], self.section.objective == "language-model", facts["vocabulary"])

    def known(self) -> Companions:
        if self.companions is None:
            raise LlmopsError("a model that writes was used before it was trained or loaded")
        return self.companions

    def device(self) -> torch.device:
        return choose_device(self.settings.device)

    def keep(self, problem: Problem) -> None:
        """Take the trained network over from a problem, adapters melted in."""
        self.network = merge_lora(problem.network).requires_grad_(True).eval()

    def trained(self) -> Any:
        if self.network is None:
            raise LlmopsError("a model that writes was used before it was trained or loaded")
        return self.network

    def parameters(self) -> int:
        """Weights in the network; tied ones count once."""
        return sum(value.numel() for value in self.trained().parameters())

    def predict(self, dataset: Path, split: str) -> dict[str, Array]:
        """Raw answers to a split: {"argmax": int32 [counted tokens], "logp": float32 [counted tokens]}: the likeliest
        token at each place that counts, and the log-probability of the one that stands there, flat, in the split's
        order as `windows.windows` cuts it.

        For preferences (the chosen answer's row, then the rejected one's) also "reference_logp", float32 [rows], each
        answer's log-probability before the training, and "beta", float32 []. Raises DataError for other rows than
        those that the model was trained beside.
        """
        device = self.device()
        data = Encoded.read(dataset, split)
        found = raw_answers(CausalReader(self.trained().to(device).eval()), data, self.reading(), device)
        if self.section.objective == "preferences":
            reference = self.known().reference.get(split)
            if reference is None or len(reference) != len(data.lengths):
                raise DataError(
                    f"The model does not know what it gave the rows of {split} before its training.",
                    str(dataset),
                    "take the data set that it was trained on.",
                )
            found |= {"reference_logp": reference, "beta": np.array(self.settings.beta, np.float32)}
        return found

    def write(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        end_tokens: Collection[int],
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Written:
        """Write after a prompt with the trained network; see writer.py."""
        return write(self.trained(), prompt, max_tokens, end_tokens, temperature, top_p, seed)

    def save(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder (config.json, generation_config.json, model.safetensors,
        tokenizer.json, tokenizer_config.json, chat_template.jinja) with model.json, and for preferences
        reference.safetensors."""
        network = self.trained().cpu()
        folder.mkdir(parents=True, exist_ok=True)
        save_causal(network, folder)
        self.known().write(folder, self.section.answer.plain())
        write_json(
            folder / "model.json",
            {
                "format": FORMAT,
                "model": self.settings.model,
                "train": self.settings.plain(),
                "objective": self.section.objective,
                "facts": self.known().facts,
            },
        )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; needs no hub. Raises DataError when it is missing, torn or newer than this llmops."""
        try:
            self.companions, about = Companions.read(folder)
            self.settings = GenerationTrainSection(**about["train"])
        except DataError:
            raise
        except Exception as problem:
            raise DataError(f"The model cannot be read: {problem}", str(folder), "run train again.") from problem
        self.network = load_causal(folder).eval()

    def export(self, folder: Path) -> list[Path]:
        """Write the float32 ONNX form that steps, the tokenizer and the template, and merged/, the model as
        transformers and vLLM read it; settings.json is for the bundle."""
        from llmops.nets.export_causal import export_causal

        merged = folder / MERGED
        self.save(merged)
        for name in ("model.json", "reference.safetensors"):
            (merged / name).unlink(missing_ok=True)
        found = export_causal(merged, folder, self.known().facts["context"])
        write_json(folder / SETTINGS, found)
        for name in ("tokenizer.json", "chat_template.jinja"):
            if (merged / name).is_file():
                (folder / name).write_bytes((merged / name).read_bytes())
        return tree_files(folder)


def everything(data: Encoded) -> Encoded:
    """The rows with loss on every token but each one's first, which nothing precedes."""
    trained = np.ones_like(data.trained)
    trained[data.offsets[:-1][data.lengths > 0]] = False
    return replace(data, trained=trained)
