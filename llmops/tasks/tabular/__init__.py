"""Tables: a class or a number from a row of named fields. This module loads no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmops.core.errors import Mistake
from llmops.core.protocols import Judged, Metric, Places, Row, Rows
from llmops.core.protocols.task import Predicts
from llmops.core.section import Section
from llmops.fields import kind_of, kinds_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import Kind
from llmops.tasks.base import TaskBase
from llmops.tasks.tabular.config import BriefedSection, TabularAcceptSection, TabularSection, TabularTrainSection

ANSWERING = {"costs", "slices", "reasons", "coverage", "metric"}
"""Settings of the task that change answers and figures, and nothing in the data set."""


class Tabular(TaskBase):
    """The task `tabular`."""

    name = "tabular"
    version = 1
    section: type[Section] = TabularSection
    train_section: type[Section] = TabularTrainSection
    accept_section: type[Section] = TabularAcceptSection
    parts: ClassVar[Mapping[str, str]] = {
        "encoder": "llmops.tasks.tabular.encoder:TabularEncoder",
        "learner": "llmops.tasks.tabular.learner:TabularLearner",
        "codec": "llmops.tasks.tabular.codec:TabularCodec",
        "baseline": "llmops.tasks.tabular.baseline:score_dataset",
        "measure": "llmops.tasks.tabular.measure:measure",
        "quality": "llmops.tasks.tabular.measure:quality",
        "prove": "llmops.tasks.tabular.proof:prove",
        "score": "llmops.tasks.tabular.proof:score",
    }
    columned: ClassVar[bool] = True
    of_two = frozenset({"brier", "expected_cost", "true_positive_rate_gap", "selection_rate_gap"})
    forms: tuple[str, ...] = ("float32",)
    default_forms: tuple[str, ...] = ("float32",)

    def metric(self, section: TabularSection) -> Metric:
        """What models are compared by: the one that `task.metric` names, or what suits the target."""
        return Metric(section.metric_name, section.metric_higher)

    def predicts(self, section: TabularSection) -> Predicts:
        """As `task.predict` says."""
        return section.predict

    def inputs(self, section: TabularSection) -> Mapping[str, Kind]:
        """The fields, without those that only tell rows apart."""
        return {name: kind_of(field) for name, field in section.fields.items() if field.kind != "id"}

    def reads(self, section: TabularSection) -> Mapping[str, Kind]:
        """The fields, the target, and the columns of weight and date where the config names them."""
        number, date = FieldSection(kind="number"), FieldSection(kind="date")
        aim = FieldSection(kind="number", decimal=section.decimal)
        own = {section.target: aim if section.predict == "number" else FieldSection(kind="category")}
        own |= {section.weight: number} if section.weight else {}
        own |= {section.outcome.date: section.fields.get(section.outcome.date, date)} if section.outcome else {}
        return {**kinds_of(section.fields), **{name: kind_of(field) for name, field in own.items()}}

    def columns(self, section: TabularSection) -> tuple[str, ...]:
        """All that is read."""
        return tuple(self.reads(section))

    def example(self, section: TabularSection, row: Row) -> Row | str:
        """One raw row as the values of its fields, or in words what is wrong with the first bad cell."""
        from llmops.tasks.tabular.rows import example

        return example(self.reads(section), row)

    def cleaned(self, row: Row, clean: Callable[[str], str]) -> Row:
        """The row as it is: its kinds clean their columns."""
        return row

    def tabled(self, section: TabularSection, rows: Rows) -> tuple[Rows, Mapping[str, Any]]:
        """The target as "label"; rows without one go, and those too young for one; see rows.py."""
        from llmops.tasks.tabular.rows import tabled

        return tabled(section, rows)

    def asks(self, section: TabularSection, row: Row) -> list[Row]:
        """Its fields."""
        return [{name: row.get(name) for name in self.inputs(section)}]

    def asked(self, section: TabularSection, request: Mapping[str, Any]) -> Row | None:
        """The fields of a logged request as they were sent; None when one of them is no such value."""
        from llmops.tasks.tabular.rows import example

        inputs = self.inputs(section)
        return None if isinstance(example(inputs, request), str) else {name: request.get(name) for name in inputs}

    def briefed(self, section: TabularSection, need: Any) -> Any:
        """The block with the costs of mistakes and the slices that `need:` names."""
        return BriefedSection(**section.plain(), costs=need.costs, slices=need.slices)

    def preparing(self, section: TabularSection) -> dict[str, Any]:
        """Which columns are read and how."""
        return {name: value for name, value in section.plain().items() if name not in ANSWERING}

    def encoding(self, train: TabularTrainSection) -> dict[str, Any]:
        """All models learn from the same arrays."""
        return {}

    def check(self, section: TabularSection, train: TabularTrainSection) -> list[Mistake]:
        """Slices of columns that are no fields; costs where nothing is decided."""
        slices, costs = getattr(section, "slices", []), getattr(section, "costs", None)
        unknown = [name for name in slices if name not in section.fields]
        found = [
            Mistake(
                f"`{name}` is not among `task.fields`.", "need.slices", do="name a field, or add the column to them"
            )
            for name in unknown
        ]
        if costs is not None and section.predict == "number":
            do = "take them out; a number has an interval instead of a threshold"
            found.append(
                Mistake("costs are of decisions about events; this task predicts a number.", "need.costs", do=do)
            )
        return found

    def located(self, train: TabularTrainSection, places: Places) -> TabularTrainSection:
        """It has no paths."""
        return train

    def settings(self, section: TabularSection, dataset: Path) -> dict[str, Any]:
        """The fields, what training saw of each, and how answers are given."""
        labels = dataset / "labels.json"
        return {
            "fields": section.plain()["fields"],
            "known": json.loads((dataset / "known.json").read_bytes()),
            "predict": section.predict,
            "target": section.target,
            "id": section.id,
            "labels": json.loads(labels.read_bytes()) if labels.exists() else None,
            "reasons": section.reasons,
            "coverage": section.coverage,
        }

    def harvested(self, section: TabularSection, said: Judged) -> Row | None:
        """The request's fields with the outcome; see rows.py."""
        from llmops.tasks.tabular.rows import harvested

        return harvested(section, self.inputs(section), said)
