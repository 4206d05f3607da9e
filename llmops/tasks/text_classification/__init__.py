"""Text classification: one label for one text. This module loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmops.core.errors import Mistake
from llmops.core.protocols import Judged, Metric, Row
from llmops.core.protocols.task import Predicts
from llmops.core.section import Section
from llmops.fields.hashing import row_id
from llmops.tasks.base import TextTask, missing_model
from llmops.tasks.text_classification.config import TextAcceptSection, TextClassificationSection, TextTrainSection


class TextClassification(TextTask):
    """The task `text-classification`."""

    name = "text-classification"
    version = 1
    section: type[Section] = TextClassificationSection
    train_section: type[Section] = TextTrainSection
    accept_section: type[Section] = TextAcceptSection
    parts: ClassVar[Mapping[str, str]] = {
        "encoder": "llmops.tasks.text_classification.encoder:TextEncoder",
        "learner": "llmops.tasks.text_classification.learner:TextClassifier",
        "codec": "llmops.tasks.text_classification.codec:TextCodec",
        "baseline": "llmops.tasks.text_classification.baseline:score_dataset",
        "measure": "llmops.tasks.text_classification.measure:measure",
        "quality": "llmops.tasks.text_classification.assess:quality",
        "calibrate": "llmops.tasks.text_classification.assess:calibrate",
        "prove": "llmops.tasks.text_classification.proof:prove",
        "score": "llmops.tasks.text_classification.proof:score",
    }
    settles = True

    def predicts(self, section: TextClassificationSection) -> Predicts:
        """A class."""
        return "class"

    def metric(self, section: TextClassificationSection) -> Metric:
        """What models are compared by: the one that `task.metric` names."""
        return Metric(section.metric)

    def preparing(self, section: TextClassificationSection) -> dict[str, Any]:
        """All but when to abstain, which is chosen after the training."""
        return {name: value for name, value in section.plain().items() if name != "abstain"}

    def learning(self, section: TextClassificationSection) -> dict[str, Any]:
        """As `preparing`."""
        return self.preparing(section)

    def columns(self, section: TextClassificationSection) -> tuple[str, ...]:
        """Text and label."""
        return section.text, section.label

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
        how = (
            {"tokenizer": train.model} if train.pretrained else {"tokenizer": "trained", "vocabulary": train.vocabulary}
        )
        return {"model": train.pretrained, **how}

    def check(self, section: TextClassificationSection, train: TextTrainSection) -> list[Mistake]:
        """Mistakes that show without loading anything: a local model folder that is not there."""
        return missing_model(train.model) if train.pretrained else []

    def settings(self, section: TextClassificationSection, dataset: Path) -> dict[str, Any]:
        """Labels and max_tokens, as prepare found them."""
        about = json.loads((dataset / "dataset.json").read_bytes())
        return {"labels": json.loads((dataset / "labels.json").read_bytes()), "max_tokens": about["max_tokens"]}

    def harvested(self, section: TextClassificationSection, said: Judged) -> Row | None:
        """The correction as a labelled text; None for a rating alone, and where the log kept no text."""
        if said.correction is None or (asked := self.asked(section, said.request or {})) is None:
            return None
        return {
            "id": row_id(asked["text"]), **asked, "label": said.correction, "at": said.said_at,
            "request_id": said.id,
        }  # fmt: skip
