"""Rows of tables: from what a source or a request holds to what a data set holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Judged, Row, Rows
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.hashing import row_id
from llmops.fields.kind import BadCell, Kind
from llmops.fields.rows import Columned, noted
from llmops.tasks.tabular.config import TabularSection

DAY_S = 86_400.0


def example(kinds: Mapping[str, Kind], row: Mapping[str, Any]) -> Row | str:
    """The fields of a row, or in words what is wrong with the first bad cell."""
    found = {}
    for name, kind in kinds.items():
        try:
            found[name] = kind.read(row.get(name))
        except BadCell as error:
            return f"{name}: {error}"
    return found


def tabled(section: TabularSection, rows: Rows) -> tuple[Rows, Mapping[str, Any]]:
    """What was read as the data set's rows, and which have to go: without an outcome, too young for one, or with a
    weight below 0."""
    assert isinstance(rows, Columned)
    table = rows.table
    label = table[section.target]
    if section.predict == "class":
        label = label.cast("string")
    missing = np.asarray(label.is_null())
    gone = {f"{section.target}: no outcome": np.flatnonzero(missing)}
    if section.outcome is not None:
        date = kind_of(section.fields.get(section.outcome.date, FieldSection(kind="date")))
        days = date.numpy(table[section.outcome.date]) / DAY_S
        # One date in the future, by a slip of the keyboard, would make every young row look old enough.
        undated = np.isnan(days) | (days > time.time() / DAY_S + 1)
        newest = days[~undated].max(initial=-np.inf)
        gone[f"{section.outcome.date}: missing or in the future"] = np.flatnonzero(~missing & undated)
        young = ~missing & ~undated & (days > newest - section.outcome.days)
        gone["outcome not known yet"] = np.flatnonzero(young)
    made = rows.with_values("label", label)
    if section.weight is not None:
        made, gone[f"{section.weight}: no weight"] = _weighed(made, section.weight, gone)
    names = [name for name, field in section.fields.items() if field.kind != "id"]
    kept = [
        name for name in made.table.column_names if name in names or name in map(noted, ("origin", "group", "time"))
    ]
    notes = [noted("label"), *([noted("weight")] if section.weight else [])]
    return Columned(made.table.select([*kept, *notes])), gone


def _weighed(rows: Columned, column: str, gone: Mapping[str, Any]) -> tuple[Columned, Any]:
    """The rows with their weight, and those that have none (or one below 0) and are not gone anyway."""
    weight = kind_of(FieldSection(kind="number")).numpy(rows.table[column])
    bad = np.isnan(weight) | (weight < 0)
    for places in gone.values():
        bad[places] = False
    if not (weight[~bad] > 0).any():
        do = "take `weight` out of `task:`, or mend the column"
        raise DataError(f"no row has a weight above 0 in `{column}`.", f"column {column}", do)
    return rows.with_values("weight", np.nan_to_num(weight)), np.flatnonzero(bad)


def harvested(section: TabularSection, inputs: Mapping[str, Kind], said: Judged) -> Row | None:
    """The request's fields with the outcome as its label; None without one, without contents, and for an outcome that
    is no number where a number is predicted."""
    if said.correction is None or said.request is None:
        return None
    fields = {name: said.request.get(name) for name in inputs}
    label: Any = said.correction.strip()
    if section.predict == "number":
        try:
            label = kind_of(FieldSection(kind="number")).read(label)
        except BadCell:
            return None
    if label in (None, "") or isinstance(example(inputs, fields), str):
        return None
    told = "\0".join(f"{name}={kind.key(kind.read(fields[name]))}" for name, kind in sorted(inputs.items()))
    return {**fields, "label": label, "id": row_id(told, str(label)), "at": said.said_at, "request_id": said.id}
