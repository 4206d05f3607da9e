"""Question answering over a team's own answers and documents. This module loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmops.core.errors import Mistake
from llmops.core.protocols import Judged, Metric, Row
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
    parts: ClassVar[Mapping[str, str]] = {
        "encoder": "llmops.tasks.answering.encoder:AnsweringEncoder",
        "learner": "llmops.tasks.answering.learner:Answerer",
        "codec": "llmops.tasks.answering.codec:AnsweringCodec",
        "baseline": "llmops.tasks.answering.baseline:score_dataset",
        "complete": "llmops.tasks.answering.measure:complete",
        "measure": "llmops.tasks.answering.measure:measure",
        "quality": "llmops.tasks.answering.assess:quality",
        "calibrate": "llmops.tasks.answering.assess:calibrate",
        "prove": "llmops.tasks.answering.proof:prove",
        "score": "llmops.tasks.answering.measure:score",
    }
    asks_as = "question"

    def metric(self, section: AnsweringSection) -> Metric:
        """What models are compared by: the one that `task.metric` names."""
        return Metric(section.metric)

    def unmeasured(self, section: AnsweringSection) -> frozenset[str]:
        """Without a generator nothing is phrased."""
        return frozenset() if section.phrase else frozenset(["faithfulness"])

    def preparing(self, section: AnsweringSection) -> dict[str, Any]:
        """All but how answers are said."""
        return {name: value for name, value in section.plain().items() if name not in ("phrase", "chat")}

    def learning(self, section: AnsweringSection) -> dict[str, Any]:
        """As `preparing`."""
        return self.preparing(section)

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

    def settings(self, section: AnsweringSection, dataset: Path) -> dict[str, Any]:
        """max_tokens as prepare found it, BM25's share, the generator if any, how answers are said in a chat."""
        about = json.loads((dataset / "dataset.json").read_bytes())
        phrase = section.phrase.plain() if section.phrase else None
        said = {"phrase": phrase, "chat": section.chat.plain()}
        return {"max_tokens": about["max_tokens"], "lexical": section.lexical, **said}

    def harvested(self, section: AnsweringSection, said: Judged) -> Row | None:
        """The question with the right answer, from a correction or a thumb up; see harvest.py."""
        from llmops.tasks.answering.harvest import harvested

        return harvested(said, self.asked(section, said.request or {}))
