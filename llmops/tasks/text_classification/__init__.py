"""Text classification: one label for one text. This module loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.core.errors import Mistake
from llmops.core.protocols import Codec, Encoder, Learner, Places, Row
from llmops.core.section import Section
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection


class TextClassification:
    """The task `text-classification`."""

    name = "text-classification"
    version = 1
    section: type[Section] = TextClassificationSection
    train_section: type[Section] = TextTrainSection

    def example(self, section: TextClassificationSection, row: Row) -> Row | str:
        """{"text", "label"} from a source's row, or in words why the row is bad."""
        found = {}
        for field, column in (("text", section.text), ("label", section.label)):
            if column not in row:
                return f"no column {column!r}"
            value = row[column]
            if isinstance(value, list | tuple | set | dict):
                return f"more than one value in {column!r} (one label a row, please)"
            found[field] = "" if value is None else str(value).strip()
            if not found[field]:
                return f"empty {field}"
        return found

    def encoding(self, train: TextTrainSection) -> dict[str, Any]:
        """What decides how texts become tokens: the encoder, or the size of the vocabulary trained on the data."""
        return (
            {"tokenizer": train.model} if train.pretrained else {"tokenizer": "trained", "vocabulary": train.vocabulary}
        )

    def check(self, section: TextClassificationSection, train: TextTrainSection) -> list[Mistake]:
        """Mistakes that show without loading anything: a local model folder that is not there."""
        from llmops.nets.pretrained import looks_local

        if (
            not train.pretrained
            or not looks_local(train.model)
            or (Path(train.model).expanduser() / "config.json").is_file()
        ):
            return []
        return [
            Mistake(
                f"There is no model in the folder {train.model}.",
                "train.model",
                "",
                "give a folder that holds config.json and *.safetensors.",
            )
        ]

    def located(self, train: TextTrainSection, places: Places) -> TextTrainSection:
        """`train` with the path of a local model made absolute, by the rule for all paths of a config."""
        if train.model.startswith((".", "/", "~")):
            return train.model_copy(update={"model": str(places.resolve(train.model))})
        return train

    def encoder(self, section: TextClassificationSection, train: TextTrainSection) -> Encoder:
        from llmops.tasks.text_classification.encoder import TextEncoder

        return TextEncoder(section, train)

    def learner(self, section: TextClassificationSection, train: TextTrainSection, seed: int) -> Learner:
        from llmops.tasks.text_classification.learner import TextClassifier

        return TextClassifier(section, train, seed)

    def codec(self, bundle: Path) -> Codec:
        from llmops.tasks.text_classification.codec import TextCodec

        return TextCodec(bundle)

    def baseline(self, section: TextClassificationSection, dataset: Path) -> dict[str, float | None]:
        """What a linear model reaches on the data set: {"valid": metric, "test": metric}; see baseline.py."""
        from llmops.tasks.text_classification.baseline import score_dataset

        return score_dataset(dataset, section.metric, section.outside)

    def quality(self, dataset: Path, split: str, answers: Any) -> dict[str, float]:
        """The metrics of raw answers to a split; see assess.py."""
        from llmops.tasks.text_classification.assess import quality

        return quality(dataset, split, answers)

    def agreement(self, dataset: Path, split: str, answers: Any, others: Any) -> float:
        """Share of a split's rows on which two models answer alike; see assess.py."""
        from llmops.tasks.text_classification.assess import agreement

        return agreement(dataset, split, answers, others)

    def calibrate(self, dataset: Path, answers: Any) -> dict[str, float | None]:
        """What the server decides by, fitted on raw answers to the validation split; see assess.py."""
        from llmops.tasks.text_classification.assess import calibrate

        return calibrate(dataset, answers)
