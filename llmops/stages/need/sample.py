"""The rows as `need` sees them, before prepare: read, cleaned, put where the hash will put them.

Good enough to foresee by: near-duplicates, groups, time, and the harvest of feedback are left to prepare, so counts
may differ a little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops.core.protocols import Job, Row
from llmops.core.section import Section
from llmops.records.cleaning import clean
from llmops.records.config import UNCLEANED, as_source
from llmops.records.examples import load_examples, refuse_one_class
from llmops.records.hashing import normalise, place


@dataclass(frozen=True)
class Sample:
    """Rows by split. `planned_train_rows` counts what augmentation will add."""

    splits: dict[str, list[Row]]
    planned_train_rows: int
    outside: str | None

    def counts(self, split: str) -> Counter[str]:
        """Rows of each class, the outside label left out."""
        return Counter(str(row["label"]) for row in self.splits[split] if row["label"] != self.outside)

    def in_scope(self, split: str) -> int:
        """Rows of a split that belong to a class."""
        return sum(self.counts(split).values())

    def training_rows(self) -> list[Row]:
        """As many rows as will be trained on; augmented ones are foreseen by repeating real ones."""
        rows = [row for row in self.splits["train"] if row["label"] != self.outside]
        return [rows[index % len(rows)] for index in range(self.planned_train_rows)] if rows else []


def take_sample(job: Job) -> Sample:
    """Read the sources of `prepare:`. Raises DataError for what is missing or unreadable, as prepare would."""
    prepare: Any = job.sections["prepare"]
    task: Any = job.sections["task"]
    split = step_of(prepare, "split")
    outside: str | None = getattr(task, "outside", None)
    rows = _cleaned(job, list(prepare.sources), prepare)
    own = _cleaned(job, [split["test_file"]], prepare) if split["test_file"] else None
    tested = {row["key"] for row in own or []}
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": own or []}
    for row in rows:
        if row["key"] not in tested:
            where = _place(row["key"], split["valid"], 0.0 if own is not None else split["test"])
            splits["valid" if where == "train" and row["label"] == outside else where].append(row)
    trained = sum(row["label"] != outside for row in splits["train"])
    labels = sorted({str(row["label"]) for row in splits["train"]} - {str(outside)})
    names = ", ".join(as_source(source).path for source in prepare.sources)
    refuse_one_class(labels, names, f"{trained} different training rows")
    copies = (step_of(prepare, "augment") or {}).get("copies", 0.0)
    return Sample(splits, trained + round(trained * copies), outside)


def step_of(prepare: Any, verb: str) -> dict[str, Any]:
    """The settings of one verb of prepare, empty when it is not among the steps."""
    for step in prepare.steps:
        found: Section | None = getattr(step, verb)
        if found is not None:
            return found.plain()
    return {}


def _cleaned(job: Job, sources: list[Any], prepare: Any) -> list[Row]:
    """Cleaned rows of the sources with their "key"; of rows with equal keys the first."""
    found = load_examples(sources, job.places.root, job.task, job.sections["task"], prepare.max_bad_rows)
    step = getattr(prepare, "cleaning", UNCLEANED)
    kept: dict[str, Row] = {}
    for row in found.rows:
        text = clean(str(row["text"]), step)
        if text:
            kept.setdefault(normalise(text), {**row, "text": text, "key": normalise(text)})
    return list(kept.values())


def _place(key: str, valid: float, test: float) -> str:
    at = place(key)
    return "test" if at < test else "valid" if at < test + valid else "train"


def dataset_rows(splits: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows with only what a data set's files hold."""
    return {name: [{"text": row["text"], "label": row["label"]} for row in rows] for name, rows in splits.items()}
