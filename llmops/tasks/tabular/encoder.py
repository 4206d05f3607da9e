"""TabularEncoder: rows of a table to features on disk: features.json, labels.json, known.json, <split>.safetensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_json
from llmops.core.errors import DataError
from llmops.core.protocols import Rows
from llmops.core.report import Number, Table
from llmops.fields import kind_of
from llmops.fields.rowkeys import row_keys
from llmops.fields.rows import columns_of
from llmops.tasks.event import event_last
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import TabularSection, TabularTrainSection
from llmops.tasks.tabular.features import Columns, Plan, fit_plan
from llmops.tasks.tabular.screening import Screened, codes_of, screen

MOST_CLASSES = 1000
FEW_EVENTS = 50
SHOWN = 10
KNOWN_ROWS = 200_000
"""Training rows that what is known of the fields is read from, at most."""


class TabularEncoder:
    """Screens the columns and fits the features on the train split, and encodes every split."""

    def __init__(self, section: TabularSection, train: TabularTrainSection) -> None:
        self.section, self.train = section, train
        self.kinds = {name: kind_of(field) for name, field in section.fields.items() if field.kind != "id"}

    def prepare(self, splits: Mapping[str, Rows], out: Path) -> dict[str, Any]:
        """Write the files into `out`; returns {"numbers", "tables", "warnings"} for the report.

        Raises DataError for fewer than two classes or far too many, a `positive` that is no class, a column that gives
        the answer away, and when no column is left to learn from.
        """
        labels = self.labels(splits["train"]) if self.section.predict == "class" else []
        columns = {split: columns_of(rows, self.kinds) for split, rows in splits.items()}
        target = {split: self.target(rows, labels) for split, rows in splits.items()}
        if not labels and np.ptp(target["train"]) == 0:
            what = f"`{self.section.target}` is {target['train'][0]:g} in every training row."
            raise DataError(what, f"column {self.section.target}", "name another `target`")
        fields = {name: self.section.fields[name] for name in self.kinds}
        screened = screen(columns["train"], fields, target["train"], len(labels), self.section.target)
        plan = fit_plan(columns["train"], fields, target["train"], len(labels), screened.left_out)
        if not plan.blocks:
            raise DataError(
                "no column is left to learn from.", "task.fields", do="look at `task.fields`: all of them say nothing"
            )
        out.mkdir(parents=True, exist_ok=True)
        plan.write(out)
        if labels:
            write_json(out / "labels.json", labels)
        write_json(out / "known.json", self.known(columns["train"]))
        for split, rows in splits.items():
            self.arrays(plan, split, columns[split], target[split], rows, len(labels)).write(
                out / f"{split}.safetensors"
            )
        return {
            "numbers": {"features": len(plan.names), "columns_left_out": len(screened.left_out)},
            "tables": tables(screened),
            "warnings": warnings(screened, columns["train"], target, labels),
        }

    def labels(self, train: Rows) -> list[str]:
        """The classes of the train split, sorted; of two the event comes last."""
        counts = Counter(map(str, train.values("label")))
        labels = sorted(counts)
        if len(labels) < 2:
            raise DataError(
                f"a classifier needs two classes or more; the training rows have {len(labels)}.",
                f"column {self.section.target}",
                do="check `task.target`, and that the sources hold rows of every class",
            )
        if len(labels) > min(MOST_CLASSES, max(2, len(train) // 2)):
            raise DataError(
                f"the column `{self.section.target}` has {len(labels):,} different values; is it a number?",
                f"column {self.section.target}",
                do="write `predict: number` in `task:`, or name another `target`",
            )
        return event_last(counts, self.section.positive, self.section.target)

    def target(self, rows: Rows, labels: Sequence[str]) -> np.ndarray[Any, Any]:
        """Class numbers, -1 for classes that training lacks; or the numbers themselves."""
        values = rows.values("label")
        if not labels:
            return np.array(values, np.float64)
        number = {label: place for place, label in enumerate(labels)}
        return np.array([number.get(str(value), -1) for value in values], np.int64)

    def arrays(
        self, plan: Plan, split: str, columns: Columns, target: np.ndarray[Any, Any], rows: Rows, classes: int
    ) -> Arrays:
        """One split encoded; the seed of the folds is no setting, so that equal rows give equal arrays."""
        x = plan.transform_train(columns, target, classes, seed=0) if split == "train" else plan.transform(columns)
        weights = rows.values("weight") if self.section.weight else [1.0] * len(rows)
        return Arrays(x, target, np.array(weights, np.float32))

    def known(self, columns: Columns) -> dict[str, Any]:
        """What training saw of each field, as its kind sums it up."""
        step = max(1, len(next(iter(columns.values()))) // KNOWN_ROWS)
        return {name: kind.known(columns[name][::step]) for name, kind in self.kinds.items()}


def tables(screened: Screened) -> list[Table]:
    """What each column alone tells, and what is left out."""
    order = sorted(screened.alone, key=lambda name: -screened.alone[name])[:SHOWN]
    alone: list[list[Number]] = [[name, round(screened.alone[name], 4)] for name in order]
    gone: list[list[Number]] = [[name, reason] for name, reason in screened.left_out.items()]
    title = "What a column alone tells of the target (area under the ROC curve; squared rank correlation of a number)"
    found = [Table(title, ["column", "tells"], alone)]
    return [*found, *([Table("Left out of the model", ["column", "why"], gone)] if gone else [])]


def warnings(
    screened: Screened, columns: Columns, target: Mapping[str, np.ndarray[Any, Any]], labels: Sequence[str]
) -> list[str]:
    """What deserves a person's eye."""
    said = []
    if labels and (events := int(np.bincount(target["train"], minlength=len(labels))[1:].min())) < FEW_EVENTS:
        said.append(f"only {events} training rows of the rarest class; figures about it will be rough")
    if screened.suspects:
        named = ", ".join(screened.suspects)
        said.append(f"{named} alone tells nearly all: is it known when a request comes, or only after the outcome?")
    for split in ("valid", "test"):
        if labels and (unknown := int((target[split] < 0).sum())):
            said.append(f"{unknown} {split} rows are of classes that no training row has; they count as wrong")
    if labels and (rows := contradicting(columns, target["train"])):
        said.append(f"{rows:,} training rows have a twin with another outcome; they stay, for two alike may differ")
    return said


def contradicting(columns: Columns, target: np.ndarray[Any, Any]) -> int:
    """Rows that are alike in all fields to a row with another target."""
    keys = row_keys({name: codes_of(values).astype(np.uint64) for name, values in columns.items()})
    _, group = np.unique(keys, return_inverse=True)
    low, high = np.full(group.max() + 1, np.iinfo(np.int64).max), np.full(group.max() + 1, np.iinfo(np.int64).min)
    np.minimum.at(low, group, target)
    np.maximum.at(high, group, target)
    return int((low[group] != high[group]).sum())
