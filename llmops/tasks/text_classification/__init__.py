"""Text classification: one label for one text. This module loads no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops.core.errors import Mistake
from llmops.core.protocols import (
    Codec,
    Encoder,
    Judged,
    Learner,
    Measured,
    Metric,
    Opened,
    Proof,
    Room,
    Row,
    Server,
)
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

    def settings(self, section: TextClassificationSection, dataset: Path) -> dict[str, Any]:
        """Labels and max_tokens, as prepare found them."""
        about = json.loads((dataset / "dataset.json").read_bytes())
        return {"labels": json.loads((dataset / "labels.json").read_bytes()), "max_tokens": about["max_tokens"]}

    def measure(self, section: TextClassificationSection, dataset: Path, opened: Opened, trained: Any) -> Measured:
        """Latency, rate and metrics of a candidate on the validation split; see measure.py."""
        from llmops.tasks.text_classification.measure import measure

        return measure(section.metric, dataset, opened, trained)

    def trained_quality(
        self, section: TextClassificationSection, dataset: Path, split: str, answers: Any
    ) -> dict[str, float]:
        """The metrics of logits to a split; see assess.py."""
        from llmops.tasks.text_classification.assess import quality

        return quality(dataset, split, answers)

    def calibrate(
        self, section: TextClassificationSection, dataset: Path, measured: Measured
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Temperature, and how and when to abstain, fitted on the candidate's validation logits; see assess.py."""
        from llmops.tasks.text_classification.assess import calibrate

        return calibrate(section.abstain, dataset, measured.answers)

    def prove(
        self,
        section: TextClassificationSection,
        dataset: Path,
        bundle: Path,
        server: Server,
        learner: Learner,
        room: Room,
    ) -> Proof:
        """Every held-out text through the real server; see proof.py."""
        from llmops.tasks.text_classification.proof import prove

        return prove(dataset, bundle, server, learner, room)

    def score(self, section: TextClassificationSection, dataset: Path, split: str, opened: Opened) -> float:
        """The metric of an opened bundle on a split; see proof.py."""
        from llmops.tasks.text_classification.proof import score

        return score(section.metric, dataset, split, opened)

    def harvested(self, section: TextClassificationSection, said: Judged) -> Row | None:
        """The correction as a labelled text; None for a rating alone, and where the log kept no text."""
        if said.correction is None or (asked := self.asked(section, said.request or {})) is None:
            return None
        return {
            "id": row_id(asked["text"]), **asked, "label": said.correction, "at": said.said_at,
            "request_id": said.id,
        }  # fmt: skip
