"""How good a server's labels and probabilities are on the rows that belong to a class: figures, intervals, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from llmops.core.intervals import wilson
from llmops.core.report import Curve, Grid, Number, Table
from llmops.tasks import ranking
from llmops.tasks.bootstrap import MOST_CELLS, MOST_DRAWN, bootstrap
from llmops.tasks.confusion import class_table, confused_pairs, confusion, picture
from llmops.tasks.text_classification.metrics import RANKING, rankings, scores
from llmops.tasks.text_classification.parity import Rows

Array = np.ndarray[Any, Any]
SHOWN_MISTAKES = 10


@dataclass(frozen=True)
class Served:
    """`truth` and `answers` are class numbers [rows], `probabilities` float64 [rows, classes]."""

    labels: list[str]
    truth: Array
    answers: Array
    probabilities: Array

    @classmethod
    def of(cls, rows: Rows, said: Sequence[str], probabilities: Array) -> Served:
        """The rows of a split that belong to a class, with the labels that were said to be likeliest."""
        inside = rows.truth >= 0
        return cls(rows.labels, rows.truth[inside], rows.numbers(said)[inside], probabilities[inside])

    @property
    def event(self) -> Array | None:
        """Of two classes: whether each row is the event, bool [rows]."""
        return self.truth == 1 if len(self.labels) == 2 else None

    def value(self, metric: str, at: Array | slice = slice(None)) -> float:
        """A metric of all rows, or of those at some places."""
        if metric in RANKING:
            return RANKING[metric](self.truth[at], self.probabilities[at])
        return scores(self.truth[at], self.answers[at], len(self.labels))[metric]

    def numbers(self, metric: str) -> dict[str, Number]:
        """The metrics (None: these rows say nothing of it), with 95 % intervals (NAME_low, NAME_high) of the accuracy,
        of `metric`, and of what is told of an event."""
        told = scores(self.truth, self.answers, len(self.labels)) | rankings(self.truth, self.probabilities)
        unknown = self.unmeasured()
        found: dict[str, Number] = {name: None if name in unknown else value for name, value in told.items()}
        intervals = {"accuracy": wilson(told["accuracy"], len(self.truth))}
        wanted = [metric]
        if self.event is not None and len(self.truth):
            events = int(self.event.sum())
            found |= {"event": self.labels[1], "events": events}
            intervals["roc_auc"] = ranking.auc_interval(self.event, self.probabilities[:, 1])
            intervals["recall"] = wilson(told["recall"], events)
            wanted.append("average_precision")
        intervals |= {
            name: bootstrap(partial(self.value, name), len(self.truth))
            for name in wanted
            if name not in intervals and self.drawn(name)
        }
        for name in unknown:
            intervals.pop(name, None)
        for name, (low, high) in intervals.items():
            found |= {f"{name}_low": low, f"{name}_high": high}
        return found

    def unmeasured(self) -> set[str]:
        """Figures that these rows say nothing of: where no row is the event, or every one."""
        if self.event is None:
            return set() if len(np.unique(self.truth)) > 1 else {"roc_auc"}
        if not self.event.any():
            return {"roc_auc", "average_precision", "recall"}
        return {"roc_auc"} if self.event.all() else set()

    def drawn(self, metric: str) -> bool:
        """Whether an interval of a metric is drawn by resampling: not where that would take minutes."""
        cells = self.probabilities.size if metric in RANKING else len(self.truth)
        return 0 < cells <= (MOST_CELLS if metric in RANKING else MOST_DRAWN)

    def tables(self) -> list[Table]:
        """Class by class, and the commonest pairs of true and answered label."""
        counts = self.counts()
        mistakes = confused_pairs(counts, self.labels, SHOWN_MISTAKES)
        return [class_table(counts, self.labels), Table("Commonest mistakes", ["true", "answered", "rows"], mistakes)]

    def grids(self) -> list[Grid]:
        """Which class was answered for which."""
        return picture(self.counts(), self.labels)

    def curves(self) -> list[Curve]:
        """Of two classes the ROC curve and the precision-recall curve."""
        return [] if self.event is None else ranking.curves(self.event, self.probabilities[:, 1])

    def counts(self) -> Array:
        """Rows by [true class, answered class]."""
        return confusion(self.truth, self.answers, len(self.labels))
