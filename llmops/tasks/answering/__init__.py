"""Question answering over a team's own answers and documents. This module loads no torch."""

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
from llmops.core.section import Section
from llmops.tasks.answering.config import AnsweringAcceptSection, AnsweringSection, AnsweringTrainSection
from llmops.tasks.base import TextTask, missing_model


class Answering(TextTask):
    """The task `answering`. Answers stay as they were published: their lines, and the address that they tell people to
    write to, which redaction would take away."""

    name = "answering"
    version = 1
    section: type[Section] = AnsweringSection
    train_section: type[Section] = AnsweringTrainSection
    accept_section: type[Section] = AnsweringAcceptSection
    asks_as = "question"

    def metric(self, section: AnsweringSection) -> Metric:
        """What models are compared by: the one that `task.metric` names."""
        return Metric(section.metric)

    def columns(self, section: AnsweringSection) -> tuple[str, ...]:
        """Question, answer, and source where the config names its column."""
        return tuple(filter(None, (section.question, section.answer, section.source)))

    def example(self, section: AnsweringSection, row: Row) -> Row | str:
        """{"text", "answer", "source"} from a source's row, or in words why the row is bad."""
        found: Row = {}
        for field, column in (("text", section.question), ("answer", section.answer), ("source", section.source)):
            value = None if column is None else row.get(column)
            if isinstance(value, list | tuple | set | dict):
                return f"more than one value in {column!r} (one answer a row, please)"
            found[field] = "" if value is None else str(value).strip()
            if column is not None and column not in row:
                return f"no column {column!r}"
        for field, column in (("text", section.question), ("answer", section.answer)):
            if not found[field]:
                return f"empty {column}"
        return {**found, "source": found["source"] or None}

    def encoding(self, train: AnsweringTrainSection) -> dict[str, Any]:
        """What decides how texts become tokens: the encoder."""
        return {"model": True, "tokenizer": train.model}

    def check(self, section: AnsweringSection, train: AnsweringTrainSection) -> list[Mistake]:
        """Mistakes that show without loading anything: a model's folder or documents that are not there."""
        found = missing_model(train.model)
        if section.documents is not None and not Path(section.documents).expanduser().exists():
            do = "check the path; relative ones start at the project's root."
            found.append(Mistake(f"There is nothing at {section.documents}.", "task.documents", do=do))
        return found

    def encoder(self, section: AnsweringSection, train: AnsweringTrainSection) -> Encoder:
        from llmops.tasks.answering.encoder import AnsweringEncoder

        return AnsweringEncoder(section, train)

    def learner(self, section: AnsweringSection, train: AnsweringTrainSection, seed: int) -> Learner:
        from llmops.tasks.answering.learner import Answerer

        return Answerer(section, train, seed)

    def codec(self, bundle: Path) -> Codec:
        from llmops.tasks.answering.codec import AnsweringCodec

        return AnsweringCodec(bundle)

    def baseline(self, section: AnsweringSection, dataset: Path) -> dict[str, float | None]:
        """What BM25 reaches on the data set: {"valid": metric, "test": metric}; see baseline.py."""
        from llmops.tasks.answering.baseline import score_dataset

        return score_dataset(dataset, section.metric)

    def settings(self, section: AnsweringSection, dataset: Path) -> dict[str, Any]:
        """max_tokens as prepare found it, BM25's share, the generator if any."""
        about = json.loads((dataset / "dataset.json").read_bytes())
        phrase = section.phrase.plain() if section.phrase else None
        return {"max_tokens": about["max_tokens"], "lexical": section.lexical, "phrase": phrase}

    def complete(self, section: AnsweringSection, dataset: Path, opened: Opened, folder: Path) -> None:
        """Write the index, computed with the candidate's own runtime; see measure.py."""
        from llmops.tasks.answering.measure import complete

        complete(dataset, opened, folder)

    def measure(self, section: AnsweringSection, dataset: Path, opened: Opened, trained: Any) -> Measured:
        """Latency, rate and figures of a candidate on the validation split; see measure.py."""
        from llmops.tasks.answering.measure import measure

        return measure(section, dataset, opened, trained)

    def trained_quality(self, section: AnsweringSection, dataset: Path, split: str, answers: Any) -> dict[str, float]:
        """recall_at_1, recall_at_5 and mrr of cosines to a split; see assess.py."""
        from llmops.tasks.answering.assess import quality

        return quality(section, dataset, split, answers)

    def calibrate(
        self, section: AnsweringSection, dataset: Path, measured: Measured
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The confidence's curve and the threshold, fitted on the candidate's validation answers; see assess.py."""
        from llmops.tasks.answering.assess import calibrate

        return calibrate(section, dataset, measured.answers)

    def prove(
        self,
        section: AnsweringSection,
        dataset: Path,
        bundle: Path,
        server: Server,
        learner: Learner,
        room: Room,
    ) -> Proof:
        """Every held-out question through the real server; see proof.py."""
        from llmops.tasks.answering.proof import prove

        return prove(section, dataset, bundle, server, learner, room)

    def score(self, section: AnsweringSection, dataset: Path, split: str, opened: Opened) -> float:
        """The metric of an opened bundle on a split, by its own index; see measure.py."""
        from llmops.tasks.answering.measure import score

        return score(section, dataset, split, opened)

    def harvested(self, section: AnsweringSection, said: Judged) -> Row | None:
        """The question with the right answer, from a correction or a thumb up; see harvest.py."""
        from llmops.tasks.answering.harvest import harvested

        return harvested(said, self.asked(section, said.request or {}))
