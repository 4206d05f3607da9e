"""Plan: fields of a row to the numbers that models see. One path for training, the server and `predict`; numpy alone.

Numbers and flags stand as they are, missing values as NaN. Dates become parts, and pairs of dates their distance.
Categories of few values are spread over one column each; of many values, and of text, see categories.py and
textvectors.py: what is learnt there is learnt on training rows, and a training row is never encoded by its own target.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_json
from llmops.core.errors import DataError
from llmops.fields.config import FieldSection
from llmops.tasks.tabular.categories import MANY, Spread, TargetMeans
from llmops.tasks.tabular.textvectors import TextVectors

FORMAT = 1
FILE = "features.json"
Columns = Mapping[str, np.ndarray[Any, Any]]
Matrix = np.ndarray[Any, np.dtype[np.float32]]
DAY_S = 86_400.0
LARGEST = float(np.finfo(np.float32).max)
MOST_DATES = 4
"""Date columns whose distances from one another are features too."""
DIRECTIONS = {"increasing": 1, "decreasing": -1, None: 0}


@dataclass(frozen=True)
class Block:
    """The features of one column (or of two dates): how they are made, what they are called, and how the answer may
    depend on them (1: only rise, -1: only fall, 0: as it likes)."""

    how: str
    column: str
    names: list[str]
    other: str = ""
    direction: int = 0
    learnt: dict[str, Any] = field(default_factory=dict)

    def fill(self, out: Matrix, columns: Columns) -> None:
        """Write this block's features, float32 [rows, len(names)]."""
        values = columns[self.column]
        if self.how == "number":
            out[:, 0] = np.clip(values, -LARGEST, LARGEST)
        elif self.how == "date":
            _date_parts(out, values)
        elif self.how == "days between":
            out[:, 0] = (columns[self.other] - values) / DAY_S
        else:
            self.maker.fill(out, values)

    @cached_property
    def maker(self) -> Any:
        """What makes features of a category or a text; it is kept, for a server asks it for one row after another."""
        return {"spread": Spread, "means": TargetMeans, "text": TextVectors}[self.how](**self.learnt)

    def plain(self) -> dict[str, Any]:
        """All that is told of the block, for JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True)
class Plan:
    """All features, in their order."""

    blocks: list[Block]

    @property
    def names(self) -> list[str]:
        """What each feature is called: income, purpose = car, opened: month."""
        return [name for block in self.blocks for name in block.names]

    @property
    def columns(self) -> list[str]:
        """The columns that features are made of, each once, in the order of the config; of two dates the first."""
        return list(dict.fromkeys(block.column for block in self.blocks))

    @property
    def column_of(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The number (in `columns`) of each feature's column, int64 [features]."""
        order = {name: number for number, name in enumerate(self.columns)}
        return np.array([order[block.column] for block in self.blocks for _ in block.names], np.int64)

    @property
    def directions(self) -> list[int]:
        """How the answer may depend on each feature."""
        return [block.direction for block in self.blocks for _ in block.names]

    def transform(self, columns: Columns) -> Matrix:
        """float32 [rows, features] of columns as their kinds give them; NaN where a value is missing."""
        rows = len(columns[self.blocks[0].column])
        out = np.empty((rows, len(self.names)), np.float32)
        at = 0
        for block in self.blocks:
            block.fill(out[:, at : at + len(block.names)], columns)
            at += len(block.names)
        return out

    def transform_train(self, columns: Columns, target: np.ndarray[Any, Any], classes: int, seed: int) -> Matrix:
        """`transform` of the training rows, where a mean of the target is the mean over other rows only."""
        out = self.transform(columns)
        at = 0
        for block in self.blocks:
            if block.how == "means":
                mine = out[:, at : at + len(block.names)]
                block.maker.fill_apart(mine, columns[block.column], target, classes, seed)
            at += len(block.names)
        return out

    def write(self, folder: Path) -> None:
        """Write features.json."""
        write_json(folder / FILE, {"format": FORMAT, "blocks": [block.plain() for block in self.blocks]})

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """What `write` wrote. Raises DataError when it is missing, torn or newer than this llmops."""
        try:
            return cls.read_bytes((folder / FILE).read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"the features cannot be read: {error!r}"
            raise DataError(what, str(folder / FILE), "run prepare again") from error

    @classmethod
    def read_bytes(cls, content: bytes) -> Plan:
        """The plan of a features.json."""
        told = json.loads(content)
        if told["format"] > FORMAT:
            raise DataError("the features are of a newer llmops", FILE, "upgrade llmops")
        return cls([Block(**block) for block in told["blocks"]])


def fit_plan(
    columns: Columns,
    fields: Mapping[str, FieldSection],
    target: np.ndarray[Any, Any],
    classes: int,
    left_out: Collection[str] = (),
) -> Plan:
    """The features of training rows. `target` holds class numbers (int64) or, with `classes` 0, numbers (float64)."""
    used = {
        name: section
        for name, section in fields.items()
        if section.learn and section.kind != "id" and name not in left_out
    }
    blocks: list[Block] = []
    for name, section in used.items():
        blocks += _blocks(name, section, columns[name], target, classes)
    dates = [name for name, section in used.items() if section.kind == "date"]
    if len(dates) <= MOST_DATES:
        for place, first in enumerate(dates):
            names = [(first, second) for second in dates[place + 1 :]]
            blocks += [Block("days between", a, [f"days from {a} to {b}"], other=b) for a, b in names]
    return Plan(blocks)


def _blocks(
    name: str, section: FieldSection, values: np.ndarray[Any, Any], target: np.ndarray[Any, Any], classes: int
) -> list[Block]:
    if section.kind in ("number", "flag"):
        return [Block("number", name, [name], direction=DIRECTIONS[section.monotone])]
    if section.kind == "date":
        parts = [f"{name}: {part}" for part in ("day", "month", "weekday", "hour")]
        return [Block("date", name, parts)]
    if section.kind == "text":
        vectors = TextVectors.fit(values)
        names = [f"{name}: theme {number + 1}" for number in range(len(vectors.directions))]
        return [Block("text", name, [f"{name}: words", *names], learnt=dict(vars(vectors)))]
    spread = Spread.fit(values)
    if len(spread.values) <= MANY:
        names = [f"{name} = {value}" for value in spread.values]
        return [Block("spread", name, [*names, f"{name} missing"], learnt=dict(vars(spread)))]
    means = TargetMeans.fit(values, target, classes)
    return [Block("means", name, means.names(name), learnt=dict(vars(means)))]


def _date_parts(out: Matrix, values: np.ndarray[Any, Any]) -> None:
    """Days since 1970, month, weekday (Monday 0), hour; NaN where the date is missing."""
    there = ~np.isnan(values)
    seconds = np.where(there, values, 0.0)
    days = np.floor(seconds / DAY_S)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    parts = (seconds / DAY_S, months, (days + 3) % 7, np.floor((seconds - days * DAY_S) / 3600))
    for place, part in enumerate(parts):
        out[:, place] = np.where(there, part, np.nan)
