"""Proves a bundle through the real server: every held-out row, beside its outcome and the trained model's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Learner, Opened, Proof, Room, Rows, Server
from llmops.core.report import Curve, Number, Table
from llmops.fields import kind_of
from llmops.fields.rows import columns_of, read_split
from llmops.tasks import ranking
from llmops.tasks.asking import Answers, ask
from llmops.tasks.bootstrap import MOST_DRAWN, bootstrap
from llmops.tasks.tabular import metrics, slices
from llmops.tasks.tabular.arrays import Arrays, read_labels
from llmops.tasks.tabular.calibration import apply
from llmops.tasks.tabular.codec import TabularCodec
from llmops.tasks.tabular.config import TabularSection
from llmops.tasks.tabular.importance import importance
from llmops.tasks.tabular.measure import CLOSE, answer_arrays
from llmops.tasks.tabular.quality import decided, figures, of_decisions
from llmops.tasks.tabular.slices import Group

Floats = np.ndarray[Any, Any]
SHOWN = 10


def prove(section: TabularSection, dataset: Path, bundle: Path, server: Server, learner: Learner, room: Room) -> Proof:
    """Ask the server every held-out row, and compare its answers with the outcomes and the trained model's.

    Raises DataError when there is no row, or the server refuses one.
    """
    split, rows = "test", read_split(dataset, "test")
    if not len(rows):
        split, rows = "valid", read_split(dataset, "valid")
    if not len(rows):
        raise DataError("there is no test row and no validation row", str(dataset), "run prepare again")
    arrays, codec = Arrays.read(dataset, split), TabularCodec(bundle)
    with room.progress("asking the server", len(rows)) as bar:
        answers = ask(server, [codec.sent(row) for row in rows], together, bar.update)
    labels = read_labels(dataset)
    served = Served(section, labels, rows, arrays, answers, codec)
    raw = learner.predict(dataset, split)
    trained = raw[:, 0] if not labels else apply(raw, codec.settings.calibration or {})
    numbers = served.numbers() | served.parity(trained) | answers.latency()
    model: Any = learner
    names, column_of = codec.plan.columns, codec.plan.column_of
    tables = [
        *served.slices(),
        importance(section, model.trained().raw, arrays, names, column_of, len(labels)),
        served.mistakes(),
    ]
    return Proof(
        headline=headline(section, numbers),
        numbers=numbers,
        tables=tables,
        curves=served.curves(),
        warnings=served.warnings(numbers),
        lines=served.lines(),
        split=split,
    )


def together(bodies: list[Any]) -> dict[str, Any]:
    """The body that asks several rows at once."""
    return {TabularCodec.many: bodies}


def score(section: TabularSection, dataset: Path, split: str, opened: Opened) -> float | None:
    """The metric of an opened bundle on a split, by its own features, runtime and calibration; None where it predicts
    something else, or none of its classes is among these rows' classes."""
    codec, rows, labels = opened.codec, read_split(dataset, split), read_labels(dataset)
    told: Any = codec.settings
    if told.predict != section.predict or sorted(told.labels or []) != sorted(labels):
        return None
    if any(name not in section.fields for name in codec.kinds):
        return None
    raw = answer_arrays(opened, codec.plan.transform(columns_of(rows, codec.kinds)))
    arrays = Arrays.read(dataset, split)
    order = [] if not labels else [told.labels.index(label) for label in labels]
    truth = arrays.y if not labels else np.where(arrays.y < 0, -1, np.array(order)[np.maximum(arrays.y, 0)])
    settled = {"calibration": told.calibration, "threshold": told.threshold} if labels else {"interval": told.interval}
    return figures(section, settled, raw, truth, arrays.weight)[section.metric_name]


@dataclass
class Served:
    """Held-out rows with the server's answers to them."""

    section: TabularSection
    labels: list[str]
    rows: Rows
    arrays: Arrays
    answers: Answers
    codec: TabularCodec

    def __post_init__(self) -> None:
        said = self.answers.responses
        self.truth = self.arrays.y
        if self.labels:
            self.values = np.array([[one["probabilities"][label] for label in self.labels] for one in said], float)
            number = {label: place for place, label in enumerate(self.labels)}
            self.decided = np.array([number[one["label"]] for one in said], np.int64)
        else:
            self.values = np.array([one["value"] for one in said], float)
            low, high = (np.array([one[end] for one in said], float) for end in ("low", "high"))
            self.inside, self.width = (low <= self.truth) & (self.truth <= high), high - low
        kinds = {name: kind_of(self.section.fields[name]) for name in getattr(self.section, "slices", [])}
        columns = columns_of(self.rows, kinds)
        self.groups = {name: slices.groups_of(kind, columns[name]) for name, kind in kinds.items()}

    @property
    def two(self) -> bool:
        """Whether there is one event."""
        return len(self.labels) == 2

    def figures(self, places: Floats | None = None) -> dict[str, float]:
        """The task's figures on these rows, or some of them."""
        at = np.arange(len(self.truth)) if places is None else places
        weight = self.arrays.weight[at]
        if self.labels:
            return of_decisions(self.section, self.values[at], self.decided[at], self.truth[at], weight)
        width = float(self.width[at].mean())
        covered = float(np.average(self.inside[at], weights=weight))
        found = metrics.of_numbers(self.truth[at], self.values[at], weight)
        return {**found, "interval_coverage": covered, "interval_width": width}

    def numbers(self) -> dict[str, Number]:
        """Everything that gates and people ask for but what the trained model says."""
        found: dict[str, Number] = {"rows": len(self.truth), **self.figures()}
        name = self.section.metric_name
        if self.two:
            event = self.truth == 1
            low, high = ranking.auc_interval(event, self.values[:, 1])
            found |= {"events": int(event.sum()), "roc_auc_low": low, "roc_auc_high": high}
            found |= {"threshold": self.codec.settings.threshold, "alarms": float(self.decided.mean())}
            calibration = self.codec.settings.calibration or {}
            found["calibration_method"] = str(calibration.get("method"))
        if f"{name}_low" not in found and len(self.truth) <= MOST_DRAWN:
            low, high = bootstrap(lambda places: self.figures(places)[name], len(self.truth))
            found |= {f"{name}_low": low, f"{name}_high": high}
        gaps = slices.gaps(self.groups, self.truth == 1, self.decided == 1) if self.two and self.groups else {}
        return found | gaps

    def parity(self, trained: Floats) -> dict[str, Number]:
        """How near the server's answers are to the trained model's, probabilities [rows, classes] or numbers [rows]."""
        apart = np.abs(self.values - trained)
        if not self.labels:
            apart = apart / np.maximum(1.0, np.abs(trained))
            alike = apart <= CLOSE
        else:
            alike = decided(trained, self.codec.settings.threshold) == self.decided
        return {"parity": float(alike.mean()), "answer_difference": float(apart.max())}

    def slices(self) -> list[Table]:
        """The figures by group of each column of `need.slices`."""
        return [self._slice(column, groups) for column, groups in self.groups.items()]

    def _slice(self, column: str, groups: list[Group]) -> Table:
        if self.two:
            return slices.of_events(column, groups, self.truth == 1, self.values[:, 1], self.decided == 1)
        if self.labels:
            return slices.of_classes(column, groups, self.decided == self.truth)
        return slices.of_numbers(column, groups, self.values - self.truth, self.inside)

    def curves(self) -> list[Curve]:
        """ROC, precision and recall, and reliability of two classes."""
        if not self.two:
            return []
        event, score = self.truth == 1, self.values[:, 1]
        drawn = ranking.curves(event, score)
        return [*drawn, metrics.reliability(event, score)] if drawn else []

    def mistakes(self) -> Table:
        """The rows whose answers were furthest off."""
        if self.labels:
            sure = self.values[np.arange(len(self.truth)), np.maximum(self.truth, 0)] * (self.truth >= 0)
            order, what = np.argsort(sure, kind="stable")[:SHOWN], "probability of what came true"
            off = [round(float(sure[place]), 4) for place in order]
        else:
            error = np.abs(self.values - self.truth)
            order, what = np.argsort(-error, kind="stable")[:SHOWN], "off by"
            off = [float(f"{error[place]:.4g}") for place in order]
        said = [self.answers.responses[place] for place in order]
        came = [self.labels[n] if self.labels and n >= 0 else str(n) for n in self.truth[order].tolist()]
        lines = [self.rows.row(place) for place in order.tolist()]
        told: list[list[Number]] = [
            [str(line.get("origin") or place), true, str(one.get("label", one.get("value"))), far, because(one)]
            for place, true, one, far, line in zip(order.tolist(), came, said, off, lines, strict=True)
        ]  # fmt: skip
        return Table("Furthest off", ["row", "came true", "answered", what, "because of"], told)

    def warnings(self, numbers: Mapping[str, Any]) -> list[str]:
        """What deserves a person's eye."""
        said = []
        if self.two and numbers["events"] < FEW_EVENTS:
            said.append(f"only {numbers['events']} of the held-out rows are events; figures about them are rough")
        unseen = sum(bool(one["unseen"]) for one in self.answers.responses)
        if unseen > len(self.truth) * MUCH:
            said.append(f"{unseen:,} of {len(self.truth):,} held-out rows hold values that training never saw")
        return said

    def lines(self) -> list[dict[str, Any]]:
        """Each row's answer beside its outcome."""
        ids, true = self.rows.values("id"), self.rows.values("label")
        return [
            {"id": name, "true": came, **{key: one[key] for key in SAID if key in one},
             "latency_ms": self.answers.latency_ms.get(place)}
            for place, (name, came, one) in enumerate(zip(ids, true, self.answers.responses, strict=True))
        ]  # fmt: skip


FEW_EVENTS = 50
MUCH = 0.05
SAID = ("label", "probability", "value", "low", "high", "score")


def because(said: Mapping[str, Any]) -> str:
    """The first reasons of an answer, in a few words."""
    return ", ".join(f"{one['column']} {one['effect']:+.2g}" for one in said["reasons"][:2])


def headline(section: TabularSection, numbers: Mapping[str, Any]) -> str:
    """One sentence without its end: the stage adds the size."""
    name, n = section.metric_name, numbers
    spread = f" (95 % interval {n[f'{name}_low']:.4g} to {n[f'{name}_high']:.4g})" if f"{name}_low" in n else ""
    cost = f", cost {n['expected_cost']:.3g} a row" if "expected_cost" in n else ""
    also = f", interval holds {100 * n['interval_coverage']:.0f} %" if "interval_coverage" in n else ""
    off = f", calibration error {n['calibration_error']:.3f}" if "calibration_error" in n else ""
    return (
        f"Through the real server: {name} {n[name]:.4g}{spread} on {n['rows']:,} rows{off}{cost}{also}, answers at "
        f"most {n['answer_difference']:.1g} from the trained model's, p95 {n['latency_p95_ms']:.1f} ms"
    )
