"""The verb split: train, valid or test for every row, in a way that growing data leaves alone.

The rule, for `by: row` and `by: group`:

1. A hash of the row's normalised text (or of its group) is a place in [0, 1). Below `test` it is a test row, in the
   band above it, as wide as `valid`, a validation row, else a training row. This depends on the row alone: no row
   ever enters or leaves the test set because others come, go, or change places.
2. With `stratify`, where rows are labelled, rows outside the test set are looked at in the order of the files, label
   by label: the first of a label trains, and its third validates when none before it did. So every label that has
   three of them reaches train and valid. A row's place depends on rows before it only: appending rows, or sources,
   moves none. Rows put in before others may move a few between train and valid, never to or from test.

No rule can promise small labels a test row as well without 1.: a rule that holds for all data that may yet come can
look at nothing but the row. The report names labels that have none.

With a group, its first row is placed and the others follow. A row without a group is a group of its own.
`by: time` takes the newest rows for testing, those before them for validation, `by: order` the last rows in the order
of the files; there, new data does move the line. Rows from feedback come after all sources and never go to the test
set; rows of the outside label never train.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.fields.hashing import place
from llmops.records.ordering import by_order
from llmops.stages.prepare.config import SplitStep

SPLITS = ("train", "valid", "test")
VALID_BY = 3  # the row of a label, counted outside the test set, that validates when none before it did


@dataclass
class Splitter:
    """Places rows one after the other; `step` says how, `outside` is the label that never trains, `labelled` whether
    rows have labels at all."""

    step: SplitStep
    outside: str | None = None
    labelled: bool = True
    _groups: dict[str, str] = field(default_factory=dict)
    _rows: Counter[str | None] = field(default_factory=Counter)
    _valid: Counter[str | None] = field(default_factory=Counter)

    def split(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Rows of the sources by split, each in the given order. Raises DataError when `time` can't be read."""
        if self.step.by == "time":
            return self._by_time(rows)
        if self.step.by == "order":
            test = 0.0 if self.step.test_file else self.step.test
            return self._collect(rows, by_order([len(row["text"]) for row in rows], self.step.valid, test))
        return self._collect(rows, [self._place(row) for row in rows])

    def split_harvest(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Rows of feedback by split: train and valid only, by hash."""
        bands = [self._band(row["key"]).replace("test", "train") for row in rows]
        places = [self._settle(row.get("label"), band) for row, band in zip(rows, bands, strict=True)]
        return self._collect(rows, places)

    def _place(self, row: Row) -> str:
        group = row.get("group") if self.step.by == "group" else None
        if group in (None, ""):
            return self._settle(row.get("label"), self._band(row["key"]))
        name = str(group)
        if name not in self._groups:
            self._groups[name] = self._settle(row.get("label"), self._band(f"group:{name}"))
        else:
            self._count(row.get("label"), self._groups[name])
        return self._groups[name]

    def _band(self, key: str) -> str:
        test = 0.0 if self.step.test_file else self.step.test
        at = place(key)
        return "test" if at < test else "valid" if at < test + self.step.valid else "train"

    def _settle(self, label: str | None, band: str) -> str:
        """The split of a row with this label whose hash says `band`."""
        if self.labelled and self.step.stratify and band != "test" and label != self.outside:
            if self._rows[label] == 0:
                band = "train"
            elif self._rows[label] == VALID_BY - 1 and not self._valid[label]:
                band = "valid"
        self._count(label, band)
        return band

    def _count(self, label: str | None, split: str) -> None:
        self._rows[label] += split != "test"
        self._valid[label] += split == "valid"

    def _collect(self, rows: list[Row], places: list[str]) -> dict[str, list[Row]]:
        splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for row, where in zip(rows, places, strict=True):
            never_trains = self.outside is not None and row.get("label") == self.outside
            splits["valid" if where == "train" and never_trains else where].append(row)
        return splits

    def _by_time(self, rows: list[Row]) -> dict[str, list[Row]]:
        """The newest share of rows tests, the next newest validates; one moment's rows go by their hash."""
        moments = [moment(row["time"], row["origin"]) for row in rows]
        if len({kind for kind, _ in moments}) > 1:
            raise DataError(
                f"the column `{self.step.time}` mixes dates and numbers.",
                where=rows[0]["origin"],
                do="write all of them in one way",
            )
        newest = sorted(range(len(rows)), key=lambda n: (moments[n][1], place(rows[n]["key"])), reverse=True)
        test = 0 if self.step.test_file else round(self.step.test * len(rows))
        valid = round(self.step.valid * len(rows))
        places = ["train"] * len(rows)
        for rank, number in enumerate(newest[: test + valid]):
            places[number] = "test" if rank < test else "valid"
        return self._collect(rows, places)


def moment(value: Any, origin: str) -> tuple[str, float]:
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
            f"`{text[:40]}` is neither an ISO date nor a number.",
            where=origin,
            do="write dates as 2026-11-22 or 2026-11-22T13:30, or split `by: row`",
        ) from None
    return "date", parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()
