"""The verb split: train, valid or test for every row, in a way that growing data leaves alone.

The rule, for `by: row` and `by: group`:

1. A hash of the row's inputs, as their kinds even them out (or of its group), is a place in [0, 1). Below `test` it is
   a test row, in the band above it, as wide as `valid`, a validation row, else a training row. This depends on the row
   alone: no row ever enters or leaves the test set because others come, go, or change places.
2. With `stratify`, where a class is predicted, rows outside the test set are looked at in the order of the files, label
   by label: the first of a label trains, and its third validates when none before it did. So every label that has
   three of them reaches train and valid. Where rows have several labels, a row trains that is the first of any of its
   labels; else it validates when one of them has waited for that since its third. A row's place depends on rows
   before it only: appending rows, or sources, moves none. Rows put in before others may move a few between train and
   valid, never to or from test.

No rule can promise small labels a test row as well without 1.: a rule that holds for all data that may yet come can
look at nothing but the row. The report names labels that have none.

With a group, its first row is placed and the others follow. A row without a group is a group of its own.
`by: time` takes the newest rows for testing, those before them for validation, `by: order` the last rows in the order
of the files; there, new data does move the line. Rows from feedback come after all sources and never go to the test
set; rows of the outside label never train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.fields.hashing import place, place_of
from llmops.records.ordering import by_order
from llmops.stages.prepare.batch import Batch
from llmops.stages.prepare.config import SplitStep

SPLITS = ("train", "valid", "test")
VALID_BY = 3  # the row of a label, counted outside the test set, from which one validates when none before it did


@dataclass
class Splitter:
    """Places rows one after the other; `step` says how, `outside` is the label that never trains."""

    step: SplitStep
    outside: str | None = None
    _groups: dict[str, str] = field(default_factory=dict)
    _rows: Counter[str] = field(default_factory=Counter)
    _valid: Counter[str] = field(default_factory=Counter)

    def split(self, batch: Batch, sizes: Sequence[int] = ()) -> dict[str, Batch]:
        """Rows of the sources by split, each in the given order; `sizes` are the rows' characters, which `by: order`
        goes by. Raises DataError when `time` can't be read."""
        if self.step.by == "time":
            return self._collect(batch, self._by_time(batch))
        if self.step.by == "order":
            return self._collect(batch, by_order(sizes, self.step.valid, self._test))
        bands = self._bands(place_of(batch.keys))
        if self.step.by == "group" and batch.groups is not None:
            return self._collect(batch, self._by_group(batch, bands))
        return self._collect(batch, self._settled(batch, bands))

    def split_harvest(self, batch: Batch) -> dict[str, Batch]:
        """Rows of feedback by split: train and valid only, by hash."""
        bands = self._bands(place_of(batch.keys))
        return self._collect(batch, self._settled(batch, ["train" if band == "test" else band for band in bands]))

    @property
    def _test(self) -> float:
        return 0.0 if self.step.test_file else self.step.test

    def _bands(self, places: np.ndarray[Any, Any]) -> list[str]:
        """What the hash alone says of each row."""
        bands = np.where(places < self._test, "test", np.where(places < self._test + self.step.valid, "valid", "train"))
        found: list[str] = bands.tolist()
        return found

    def _by_group(self, batch: Batch, bands: list[str]) -> list[str]:
        assert batch.groups is not None
        places = []
        for group, labels, band in zip(batch.groups.tolist(), batch.labels_of_rows(), bands, strict=True):
            if group in (None, ""):
                places.append(self._settle(labels, band))
                continue
            name = str(group)
            if name not in self._groups:
                [of_group] = self._bands(np.array([place(f"group:{name}")]))
                self._groups[name] = self._settle(labels, of_group)
            else:
                self._count(labels, self._groups[name])
            places.append(self._groups[name])
        return places

    def _settled(self, batch: Batch, bands: list[str]) -> list[str]:
        if batch.labels is None or not self.step.stratify:
            return bands
        return [self._settle(labels, band) for labels, band in zip(batch.labels_of_rows(), bands, strict=True)]

    def _settle(self, labels: Sequence[str], band: str) -> str:
        """The split of a row with these labels whose hash says `band`."""
        if self.step.stratify and band != "test":
            learnt = [label for label in labels if label != self.outside]
            if any(not self._rows[label] for label in learnt):
                band = "train"
            elif any(self._rows[label] >= VALID_BY - 1 and not self._valid[label] for label in learnt):
                band = "valid"
        self._count(labels, band)
        return band

    def _count(self, labels: Sequence[str], split: str) -> None:
        for label in labels:
            self._rows[label] += split != "test"
            self._valid[label] += split == "valid"

    def _collect(self, batch: Batch, places: Sequence[str]) -> dict[str, Batch]:
        where = np.asarray(places)
        if self.outside is not None and batch.labels is not None:
            where = np.where((where == "train") & (batch.labels == self.outside), "valid", where)
        return {split: batch.take(np.flatnonzero(where == split)) for split in SPLITS}

    def _by_time(self, batch: Batch) -> list[str]:
        """The newest share of rows tests, the next newest validates; one moment's rows go by their hash."""
        assert batch.moments is not None
        read = {value: moment(value, batch.origin(at), self.step.time) for at, value in _first_seen(batch.moments)}
        moments = [read[value] for value in batch.moments.tolist()]
        if len({kind for kind, _ in moments}) > 1:
            raise DataError(
                f"the column `{self.step.time}` mixes dates and numbers.",
                where=batch.origin(0),
                do="write all of them in one way",
            )
        newest = np.lexsort((place_of(batch.keys), np.array([at for _, at in moments])))[::-1]
        test, valid = round(self._test * len(batch)), round(self.step.valid * len(batch))
        places = np.full(len(batch), "train")
        places[newest[: test + valid]] = "valid"
        places[newest[:test]] = "test"
        found: list[str] = places.tolist()
        return found


def _first_seen(values: np.ndarray[Any, Any]) -> list[tuple[int, Any]]:
    """Each value with the place at which it stands first."""
    found: dict[Any, int] = {}
    for place_, value in enumerate(values.tolist()):
        found.setdefault(value, place_)
    return [(place_, value) for value, place_ in found.items()]


def moment(value: Any, origin: str, column: str | None = None) -> tuple[str, float]:
    """A date (ISO 8601; without a zone it is UTC) or a number, as ("date" or "number", value to sort by).

    Raises DataError for anything else.
    """
    if isinstance(value, datetime):
        return "date", value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    text = str(value).strip()
    try:
        return "number", float(text)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(
            f"{column or 'time'}: `{text[:40]}` is neither an ISO date nor a number.",
            where=origin,
            do="write dates as 2026-11-22 or 2026-11-22T13:30, or split `by: row`",
        ) from None
    return "date", parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()
