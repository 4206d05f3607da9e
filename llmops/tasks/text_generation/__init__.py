"""Text generation: a model that writes, from documents, instructions or preferences. This module loads no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmops.core.artifact import file_digest
from llmops.core.errors import DataError, Mistake
from llmops.core.protocols import Judged, Metric, Places, Row
from llmops.core.section import Section
from llmops.tasks.base import TextTask, missing_model
from llmops.tasks.text_generation.config import (
    GenerationAcceptSection,
    GenerationTrainSection,
    TextGenerationSection,
)


class TextGeneration(TextTask):
    """The task `text-generation`."""

    name = "text-generation"
    version = 1
    section: type[Section] = TextGenerationSection
    train_section: type[Section] = GenerationTrainSection
    accept_section: type[Section] = GenerationAcceptSection
    parts: ClassVar[Mapping[str, str]] = {
        "encoder": "llmops.tasks.text_generation.encoder:GenerationEncoder",
        "learner": "llmops.tasks.text_generation.learner:GenerationLearner",
        "codec": "llmops.tasks.text_generation.codec:GenerationCodec",
        "baseline": "llmops.tasks.text_generation.unigram:baseline",
        "measure": "llmops.tasks.text_generation.measure:measure",
        "quality": "llmops.tasks.text_generation.measure:trained_quality",
        "prove": "llmops.tasks.text_generation.proof:prove",
        "score": "llmops.tasks.text_generation.measure:score",
    }
    runtime = "stepper"
    forms = ("float32", "int8-weights", "int4-weights")
    default_forms = ("float32", "int8-weights", "int4-weights")

    def metric(self, section: TextGenerationSection) -> Metric:
        """Loss and what is made of it are better when lower, reward accuracy when higher."""
        return Metric(section.metric_name, higher=section.metric_name == "reward_accuracy")

    def columns(self, section: TextGenerationSection) -> tuple[str, ...]:
        """Documents have a column; the shape of conversations is seen row by row."""
        return (section.text,) if section.objective == "language-model" else ()

    def example(self, section: TextGenerationSection, row: Row) -> Row | str:
        """A document, a conversation or a preference from a source's row; see examples.py and shapes.py."""
        from llmops.tasks.text_generation.examples import example

        return example(section, row)

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        """The example with each of its texts cleaned, line by line; see examples.py."""
        from llmops.tasks.text_generation.examples import cleaned

        return cleaned(row, clean)

    def encoding(self, train: GenerationTrainSection) -> dict[str, Any]:
        """What decides how texts become tokens: the pretrained model's tokenizer and template, or the settings of one
        trained on the data. A folder's files count by their contents: `latest` may be another model tomorrow."""
        if not train.pretrained:
            size = {"vocabulary": train.vocabulary} if train.tokenizer == "bpe" else {}
            return {"model": False, "tokenizer": train.tokenizer, **size}
        folder = Path(train.model).expanduser()
        named = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")
        files = {name: file_digest(folder / name) for name in named if (folder / name).is_file()}
        return {"model": True, "tokenizer": train.model, **files}

    def check(self, section: TextGenerationSection, train: GenerationTrainSection) -> list[Mistake]:
        """Mistakes that show without loading anything: a model folder that is not there, pretraining where there is
        nothing to pretrain."""
        folder = missing_model(train.model, "runs/NAME/latest/train/model") if train.pretrained else []
        return [*folder, *_vain_pretraining(section, train)]

    def located(self, train: GenerationTrainSection, places: Places) -> GenerationTrainSection:
        """`train` with the path of a local model made absolute; the names of networks built here are no paths."""
        located: GenerationTrainSection = super().located(train, places) if train.pretrained else train
        return located

    def asks(self, section: TextGenerationSection, row: Row) -> list[Row]:
        """The text of a document; of a conversation each of the user's messages, for each is a request of its own."""
        if "messages" not in row:
            return super().asks(section, row)
        return [{"text": turn["content"]} for turn in row["messages"] if turn["role"] == "user"]

    def asked(self, section: TextGenerationSection, request: Mapping[str, Any]) -> Row | None:
        """The user's last words of a chat, or the prompt; see harvest.py."""
        from llmops.tasks.text_generation.harvest import last_words

        text = last_words(request, section.join)
        return {"text": text} if text.strip() else None

    def settings(self, section: TextGenerationSection, dataset: Path) -> dict[str, Any]:
        """What the codec needs to know of a prepared data set. Raises DataError when it is unreadable."""
        path = dataset / "generation.json"
        try:
            facts = json.loads(path.read_bytes())
        except (OSError, ValueError) as problem:
            raise DataError(f"The data set cannot be read: {problem}", str(path), "run prepare again.") from problem
        named = ("context", "end_tokens", "pad_token", "begin_token", "vocabulary", "special_tokens", "system", "join")
        return {**{name: facts[name] for name in named}, "generation": section.answer.plain()}

    def harvested(self, section: TextGenerationSection, said: Judged) -> Row | None:
        """The training row that a rating or correction becomes; see harvest.py."""
        from llmops.tasks.text_generation.harvest import harvested

        return harvested(section, said)

    def pairs(self, section: TextGenerationSection, said: Judged) -> Row | None:
        """The preference pair that a correction becomes, besides `harvested`; see harvest.py."""
        from llmops.tasks.text_generation.harvest import pairs

        return pairs(section, said)


def _vain_pretraining(section: TextGenerationSection, train: GenerationTrainSection) -> list[Mistake]:
    if not train.pretrain_epochs:
        return []
    if train.shard:
        do = "take one out; or pretrain with `objective: language-model` and start from that run's model."
        return [Mistake("`pretrain_epochs` and `shard` do not go together.", "train.pretrain_epochs", "", do)]
    if section.objective == "instructions" and not train.pretrained:
        return []
    do = "take it out; `objective: language-model` and `objective: preferences` have no such passes."
    return [Mistake("`pretrain_epochs` is for instructions learnt from scratch.", "train.pretrain_epochs", "", do)]
