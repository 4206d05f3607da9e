"""The rows as `need` sees them, before prepare: read, cleaned, put where the hash will put them.

Good enough to foresee by: near-duplicates, groups, time, and the harvest of feedback are left to prepare, so counts
may differ a little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Job, Row, Rows
from llmops.core.protocols.task import CLASSED
from llmops.core.section import Section
from llmops.fields.config import UNCLEANED
from llmops.fields.hashing import place_of
from llmops.fields.labelsets import each
from llmops.fields.rows import Columned, Listed
from llmops.records.cleaned import cleaned, sizes, unlabelled
from llmops.records.config import as_source
from llmops.records.described import described_rows
from llmops.records.examples import load_examples, refuse_one_class
from llmops.records.ordering import by_order
from llmops.records.twins import characters, identity, input_keys, twin_keys

SPLITS = ("train", "valid", "test")
PURPOSE = {"train": "train on", "valid": "validate on"}
MOST = 100_000
"""Rows of a split that are encoded at most; time and memory of more are reckoned up."""


@dataclass(frozen=True)
class Sample:
    """Rows by split. `planned_train_rows` counts what augmentation will add; `outside` is the label that belongs to no
    class; without it, and where no class is predicted, every row is trained on."""

    splits: Mapping[str, Rows]
    planned_train_rows: int
    outside: str | None

    def counts(self, split: str) -> Counter[str]:
        """Rows of each class (a row with several counts for each), the outside label left out."""
        found = Counter(name for label in self.splits[split].values("label") for name in each(label))
        found.pop(str(self.outside), None)
        return found

    def in_scope(self, split: str) -> int:
        """Rows of a split that belong to a class; all of them where no class is predicted."""
        return len(self._inside(split))

    def is_outside(self, split: str) -> int:
        """Rows of a split that belong to no class."""
        return len(self.splits[split]) - self.in_scope(split)

    def characters(self, split: str) -> int:
        """Characters of all that is written in a split's rows."""
        return sum(map(characters, self.splits[split]))

    def planned(self) -> dict[str, Rows]:
        """The splits as they will be trained on: augmented rows are foreseen by repeating real ones; of very many rows,
        an even part."""
        train = self._inside("train")
        repeated = np.arange(self.planned_train_rows) % max(1, len(train))
        splits = {**self.splits, "train": train if len(train) == len(repeated) else train.take(repeated)}
        return {split: _even(rows) for split, rows in splits.items()}

    def halved(self) -> dict[str, Rows]:
        """Every other training row, to see whether more would help."""
        train = self._inside("train")
        splits = {**self.splits, "train": train.take(range(0, len(train), 2))}
        splits = _known(splits, _trained(splits) | {str(self.outside)})
        return {split: _even(rows) for split, rows in splits.items()}

    def _inside(self, split: str) -> Rows:
        rows = self.splits[split]
        if self.outside is None:
            return rows
        labels = rows.values("label")
        return rows.take([place for place, label in enumerate(labels) if label != self.outside])


def _even(rows: Rows) -> Rows:
    if not isinstance(rows, Columned) or len(rows) <= MOST:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, MOST).astype(np.int64))


def take_sample(job: Job) -> Sample:
    """Read the sources of `prepare:`. Raises DataError for what is missing or unreadable, as prepare would."""
    prepare: Any = job.sections["prepare"]
    section = job.sections["task"]
    outside: str | None = getattr(section, "outside", None)
    splits = _split(job, prepare, outside)
    if job.task.predicts(section) in CLASSED:
        descriptions = described_rows(job.task, section, _trained(splits))
        splits["train"] = splits["train"].joined([Listed(descriptions)]) if descriptions else splits["train"]
        known = _trained(splits) | {str(outside)}
        _refuse_unknown(splits, known, step_of(prepare, "split")["test_file"])
        splits = _known(splits, known)
    trained = len(splits["train"])
    if outside is not None:
        trained -= sum(label == outside for label in splits["train"].values("label"))
    names = ", ".join(as_source(source).path for source in prepare.sources)
    if job.task.predicts(section) in CLASSED:
        labels = [each(label) for label in splits["train"].values("label") if label != outside or label is None]
        refuse_one_class(labels, names, f"{trained} different training rows")
    else:
        _refuse_empty(splits, names)
    copies = (step_of(prepare, "augment") or {}).get("copies", 0.0)
    return Sample(splits, trained + round(trained * copies), outside)


def _trained(splits: Mapping[str, Rows]) -> set[str]:
    """The labels of training rows."""
    return {name for label in splits["train"].values("label") for name in each(label)}


def _known(splits: Mapping[str, Rows], known: set[str]) -> dict[str, Rows]:
    """The splits without what no training row has: held-out rows with such a label alone go, as prepare drops them, and
    rows with several labels keep the others."""
    return {**splits, **{split: _without_others(splits[split], known) for split in ("valid", "test")}}


def _without_others(rows: Rows, known: set[str]) -> Rows:
    labels = rows.values("label")
    left = [[name for name in each(label) if name in known] for label in labels]
    kept = [place for place, label in enumerate(labels) if left[place] or not each(label)]
    if any(isinstance(label, list) for label in labels):
        rows = rows.with_values("label", left)
    return rows.take(kept)


def _refuse_unknown(splits: Mapping[str, Rows], known: set[str], test_file: str | None) -> None:
    """Raises DataError, as prepare would, when the user's test file has labels that no training row has."""
    if not test_file:
        return
    test = splits["test"]
    lost = [[name for name in each(label) if name not in known] for label in test.values("label")]
    first = next((place for place, names in enumerate(lost) if names), None)
    if first is not None:
        labels = sorted({name for names in lost for name in names})
        raise DataError(
            f"{test_file} has labels that no training row has: {', '.join(labels[:5])}.",
            where=str(test.values("origin")[first]),
            do="add training rows for them; rows that belong to no class need their label as `task.outside`",
        )


def _refuse_empty(splits: Mapping[str, Rows], names: str) -> None:
    for split, share in (("train", "lower"), ("valid", "raise")):
        if not len(splits[split]):
            raise DataError(
                f"none of the {sum(map(len, splits.values()))} different rows is left to {PURPOSE[split]}.",
                where=names,
                do=f"add rows, or {share} `valid` of prepare's step `split`",
            )


def _split(job: Job, prepare: Any, outside: str | None) -> dict[str, Rows]:
    """The rows of the sources by split; the user's test file is the test split."""
    task, section, split = job.task, job.sections["task"], step_of(prepare, "split")
    rows, keys = _different(job, list(prepare.sources), prepare)
    own = _different(job, [split["test_file"]], prepare) if split["test_file"] else None
    if own is not None:
        kept = np.flatnonzero(~np.isin(keys, own[1]))
        rows, keys = rows.take(kept), keys[kept]
    test = 0.0 if own is not None else split["test"]
    if split["by"] == "order":
        where = np.array(by_order(sizes(task, section, rows), split["valid"], test))
    else:
        at = place_of(keys)
        where = np.where(at < test, "test", np.where(at < test + split["valid"], "valid", "train"))
    if outside is not None:
        never_trains = np.array([label == outside for label in rows.values("label")], bool)
        where = np.where((where == "train") & never_trains, "valid", where)
    splits = {name: rows.take(np.flatnonzero(where == name)) for name in SPLITS}
    return {**splits, "test": own[0]} if own is not None else splits


def step_of(prepare: Any, verb: str) -> dict[str, Any]:
    """The settings of one verb of prepare, empty when it is not among the steps."""
    for step in prepare.steps:
        found: Section | None = getattr(step, verb)
        if found is not None:
            return found.plain()
    return {}


def _different(job: Job, sources: list[Any], prepare: Any) -> tuple[Rows, Any]:
    """Cleaned rows of the sources and what their inputs are equal by; of twins the first, unless rows that nothing is
    settled about are not to be de-duplicated (running text repeats itself)."""
    task, section = job.task, job.sections["task"]
    found = load_examples(sources, job.places.root, task, section, prepare.max_bad_rows)
    rows, kept = cleaned(task, section, found.rows, getattr(prepare, "cleaning", UNCLEANED))
    rows = rows.take(np.flatnonzero(kept & ~unlabelled(section, rows)))
    keys = input_keys(task, section, rows)
    if not task.settles and all(step.dedup is None for step in prepare.steps):
        return rows, keys
    _, first = np.unique(keys if task.settles else twin_keys(rows, keys), return_index=True)
    places = np.sort(first)
    return rows.take(places), keys[places]


def dataset_rows(splits: Mapping[str, Rows]) -> dict[str, Rows]:
    """The rows with only what a data set's files hold."""
    return {name: _whole(rows) for name, rows in splits.items()}


def _whole(rows: Rows) -> Rows:
    return rows if isinstance(rows, Columned) else Listed(list(map(_finished, rows)))


def _finished(row: Row) -> Row:
    return {"id": identity(row), **{field: value for field, value in row.items() if field != "twin"}}
