"""Two small tasks without labels, real as far as prepare and need go: running text, and questions with answers.

They count characters: the encoder writes how often each stands in the training rows, and the figure that models are
compared by is the cross-entropy of a unigram model in nats a character (running text), or how many questions find
their answer by the words they share (questions).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from llmops.core.accept import AcceptSection, Gate
from llmops.core.protocols import Metric, Places, Room, Row, Task
from llmops.core.report import Passage, Table
from llmops.core.section import Section
from llmops.engine.config import FitSection
from llmops.tasks.base import TextTask

SPLITS = ("train", "valid", "test")


class WrittenSection(Section):
    """`task:` of both."""

    text: str = "text"
    """Column with the document, or the question."""
    context: int = 64
    """Characters that a row may have before it counts as cut."""


class WrittenAcceptSection(AcceptSection):
    """Gates of both."""

    loss: Gate | None = None
    """Nats a character."""
    recall_at_1: Gate | None = None
    """Share of questions that find their answer."""


class CountingEncoder:
    """Counts characters."""

    def __init__(self, section: WrittenSection) -> None:
        self.section = section

    def prepare(self, given: Mapping[str, Iterable[Row]], out: Path) -> dict[str, Any]:
        splits = {name: list(rows) for name, rows in given.items()}
        counts = Counter("".join(row["text"] for row in splits["train"]))
        (out / "counts.json").write_text(json.dumps(dict(sorted(counts.items()))))
        first = splits["train"][0]
        return {
            "max_tokens": self.section.context,
            "cut": sum(len(row["text"]) > self.section.context for rows in splits.values() for row in rows),
            "numbers": {"characters": sum(counts.values())},
            "tables": [Table("Characters", ["character", "times"], [[c, n] for c, n in counts.most_common(3)])],
            "passages": [Passage("what is trained", [("> ", False), (first["text"], True)])],
            "warnings": ["few characters"] if len(counts) < 5 else [],
        }


class CountingLearner:
    """Foresees by counting once."""

    def probe(self, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
        rows = read(source, "train") if isinstance(source, Path) else source
        characters = sum(len(row["text"]) for row in rows)
        assert not isinstance(source, Path) or (source / "counts.json").is_file()
        figures = ("epoch_s", "train_s", "train_s_upper", "parameters", "disk_mb", "rows_per_s")
        return {**dict.fromkeys(figures, 1.0), "peak_memory_mb": characters / 1e6, "memory_limit_mb": 1e6}


class RunningText(TextTask):
    """The task `running-text`: rows are parts of documents; the metric is better when it is lower."""

    name = "running-text"
    version = 1
    section: type[Section] = WrittenSection
    accept_section: type[AcceptSection] = WrittenAcceptSection

    def metric(self, section: WrittenSection) -> Metric:
        return Metric("loss", higher=False)

    def columns(self, section: WrittenSection) -> tuple[str, ...]:
        return (section.text,)

    def example(self, section: WrittenSection, row: Row) -> Row | str:
        text = row[section.text]
        if not isinstance(text, str):
            return f"{section.text} is not text"
        return {"document": text, "text": text} if text.strip() else f"{section.text} is empty"

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        text = clean(row["document"])
        return {**row, "document": text, "text": text}

    def encoding(self, train: Any) -> dict[str, Any]:
        return {}

    def located(self, train: Any, places: Places) -> Any:
        return train

    def encoder(self, section: WrittenSection, train: Any) -> CountingEncoder:
        return CountingEncoder(section)

    def learner(self, section: WrittenSection, train: Any, seed: int) -> CountingLearner:
        return CountingLearner()

    def baseline(self, section: WrittenSection, dataset: Path) -> dict[str, float | None]:
        counts = json.loads((dataset / "counts.json").read_text())
        return {split: _nats(counts, read(dataset, split)) for split in ("valid", "test")}


class Questions(RunningText):
    """The task `questions`: rows of any shape with a question and an answer, of which a question may have several."""

    name = "questions"

    def metric(self, section: WrittenSection) -> Metric:
        return Metric("recall_at_1")

    def columns(self, section: WrittenSection) -> tuple[str, ...]:
        return ()

    def example(self, section: WrittenSection, row: Row) -> Row | str:
        for field in ("question", "answer"):
            if not isinstance(row.get(field), str):
                return f"{field} is missing" if field not in row else f"{field} is not text"
        return {"text": row["question"], "answer": row["answer"], "source": row.get("source")}

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        return {**row, "text": clean(row["text"]), "answer": clean(row["answer"])}

    def baseline(self, section: WrittenSection, dataset: Path) -> dict[str, float | None]:
        answers = sorted({row["answer"] for split in SPLITS for row in read(dataset, split)})
        return {split: _found(answers, read(dataset, split)) for split in ("valid", "test")}


RUNNING = cast(Task, RunningText())
QUESTIONS = cast(Task, Questions())
TRAIN = FitSection(device="cpu")


def read(dataset: Path, split: str) -> list[Row]:
    """The rows of a split."""
    return [json.loads(line) for line in (dataset / f"{split}.jsonl").read_text().splitlines()]


def _nats(counts: dict[str, int], rows: list[Row]) -> float | None:
    text = "".join(row["text"] for row in rows)
    total = sum(counts.values()) + len(counts)
    return -sum(math.log((counts.get(letter, 0) + 1) / total) for letter in text) / len(text) if text else None


def _found(answers: list[str], rows: list[Row]) -> float | None:
    right = [max(answers, key=lambda answer: _shared(answer, row["text"])) == row["answer"] for row in rows]
    return sum(right) / len(right) if right else None


def _shared(one: str, other: str) -> int:
    return len(set(one.split()) & set(other.split()))
