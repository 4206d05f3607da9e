"""The rows as `need` sees them, before prepare: read, cleaned, put where the hash will put them.

Good enough to foresee by: near-duplicates, groups, time, and the harvest of feedback are left to prepare, so counts
may differ a little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Job, Row
from llmops.core.section import Section
from llmops.fields.cleaning import clean
from llmops.fields.config import UNCLEANED
from llmops.fields.hashing import normalise, place
from llmops.records.config import as_source
from llmops.records.examples import load_examples, refuse_one_class
from llmops.records.ordering import by_order
from llmops.records.twins import characters, identity, twin_key

ADDED = ("key", "twin")
"""Names that only need's own work on a row wants."""


@dataclass(frozen=True)
class Sample:
    """Rows by split. `planned_train_rows` counts what augmentation will add; `outside` is the label that belongs to no
    class; without it, and where rows have no labels, every row is trained on."""

    splits: dict[str, list[Row]]
    planned_train_rows: int
    outside: str | None

    def counts(self, split: str) -> Counter[str]:
        """Rows of each class, the outside label left out."""
        return Counter(str(row["label"]) for row in self._inside(split))

    def in_scope(self, split: str) -> int:
        """Rows of a split that belong to a class; all of them where rows have no labels."""
        return len(self._inside(split))

    def characters(self, split: str) -> int:
        """Characters of all that is written in a split's rows."""
        return sum(map(characters, self.splits[split]))

    def training_rows(self) -> list[Row]:
        """As many rows as will be trained on; augmented ones are foreseen by repeating real ones."""
        rows = self._inside("train")
        return [rows[index % len(rows)] for index in range(self.planned_train_rows)] if rows else []

    def _inside(self, split: str) -> list[Row]:
        rows = self.splits[split]
        return rows if self.outside is None else [row for row in rows if row.get("label") != self.outside]


def take_sample(job: Job) -> Sample:
    """Read the sources of `prepare:`. Raises DataError for what is missing or unreadable, as prepare would."""
    prepare: Any = job.sections["prepare"]
    outside: str | None = getattr(job.sections["task"], "outside", None)
    splits = _split(job, prepare, outside)
    trained = sum(outside is None or row.get("label") != outside for row in splits["train"])
    names = ", ".join(as_source(source).path for source in prepare.sources)
    if job.task.labelled:
        labels = sorted({str(row["label"]) for row in splits["train"]} - {str(outside)})
        refuse_one_class(labels, names, f"{trained} different training rows")
    for split, share in (("train", "lower"), ("valid", "raise")):
        if not splits[split] and not job.task.labelled:
            raise DataError(
                f"none of the {sum(map(len, splits.values()))} different rows is left to {PURPOSE[split]}.",
                where=names,
                do=f"add rows, or {share} `valid` of prepare's step `split`",
            )
    copies = (step_of(prepare, "augment") or {}).get("copies", 0.0)
    return Sample(splits, trained + round(trained * copies), outside)


PURPOSE = {"train": "train on", "valid": "validate on"}


def _split(job: Job, prepare: Any, outside: str | None) -> dict[str, list[Row]]:
    """The rows of the sources by split; the user's test file is the test split."""
    split = step_of(prepare, "split")
    rows = _cleaned(job, list(prepare.sources), prepare)
    own = _cleaned(job, [split["test_file"]], prepare) if split["test_file"] else None
    tested = {row["key"] for row in own or []}
    rows = [row for row in rows if row["key"] not in tested]
    test = 0.0 if own is not None else split["test"]
    if split["by"] == "order":
        places = by_order([len(row["text"]) for row in rows], split["valid"], test)
    else:
        places = [_place(row["key"], split["valid"], test) for row in rows]
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": own or []}
    for row, where in zip(rows, places, strict=True):
        never_trains = outside is not None and row.get("label") == outside
        splits["valid" if where == "train" and never_trains else where].append(row)
    return splits


def step_of(prepare: Any, verb: str) -> dict[str, Any]:
    """The settings of one verb of prepare, empty when it is not among the steps."""
    for step in prepare.steps:
        found: Section | None = getattr(step, verb)
        if found is not None:
            return found.plain()
    return {}


def _cleaned(job: Job, sources: list[Any], prepare: Any) -> list[Row]:
    """Cleaned rows of the sources with their "key"; of twins the first, unless rows without labels are not to be
    de-duplicated (running text repeats itself)."""
    found = load_examples(sources, job.places.root, job.task, job.sections["task"], prepare.max_bad_rows)
    step = getattr(prepare, "cleaning", UNCLEANED)
    apart = not job.task.labelled and all(each.dedup is None for each in prepare.steps)
    kept: dict[Any, Row] = {}
    for number, row in enumerate(found.rows):
        new = job.task.cleaned(row, lambda text: clean(text, step))
        if new["text"].strip():
            new = {**new, "key": normalise(new["text"])}
            twin = new["key"] if job.task.labelled else number if apart else twin_key(new)
            kept.setdefault(twin, new)
    return list(kept.values())


def _place(key: str, valid: float, test: float) -> str:
    at = place(key)
    return "test" if at < test else "valid" if at < test + valid else "train"


def dataset_rows(splits: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows with only what a data set's files hold."""
    return {
        name: [
            {"id": identity(row), **{field: value for field, value in row.items() if field not in ADDED}}
            for row in rows
        ]
        for name, rows in splits.items()
    }
