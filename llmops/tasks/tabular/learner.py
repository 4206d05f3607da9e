"""TabularLearner: trains, answers, saves and exports a model of a table."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_json
from llmops.core.errors import DataError, LlmopsError
from llmops.core.protocols import Listener, Room
from llmops.tasks.tabular.arrays import Arrays, read_labels
from llmops.tasks.tabular.blend import chosen_weights
from llmops.tasks.tabular.config import TabularSection, TabularTrainSection
from llmops.tasks.tabular.features import FILE as FEATURES
from llmops.tasks.tabular.features import Plan
from llmops.tasks.tabular.fitted import Blend, Fitted, rebuilt
from llmops.tasks.tabular.folds import Part, PartMaker, assigned, folds_of
from llmops.tasks.tabular.quality import figures
from llmops.tasks.tabular.settle import settle

FORMAT = 1
COMPANIONS = (FEATURES, "labels.json")
"""Files of the data set that a model needs."""
Floats = np.ndarray[Any, Any]


@dataclass
class Honest:
    """Answers to rows that the model that gave them never saw: raw [rows, outputs] of each kind, beside the truth."""

    truth: Floats
    weight: Floats
    raw: dict[str, Floats] = field(default_factory=dict)

    def known(self) -> Honest:
        """Without rows that are not answered yet, or of classes that training lacks."""
        there = ~np.any([np.isnan(values[:, 0]) for values in self.raw.values()], axis=0)
        there &= self.truth >= 0 if self.truth.dtype.kind == "i" else True
        return Honest(self.truth[there], self.weight[there], {kind: v[there] for kind, v in self.raw.items()})

    def blended(self, weights: dict[str, float]) -> Floats:
        """The weighted sum of the kinds' answers."""
        return np.asarray(sum(weight * self.raw[kind] for kind, weight in weights.items()))


class TabularLearner:
    """A model of a table; `train` or `load` first, the rest after."""

    def __init__(self, section: TabularSection, train: TabularTrainSection, seed: int) -> None:
        self.section, self.settings, self.seed = section, train, seed
        self.model: Blend | None = None
        self.settled: dict[str, Any] = {}
        self.labels: list[str] = []
        self.companions: dict[str, bytes] = {}
        self.centre: Floats = np.zeros(0)
        """The training rows' mean of each feature, which reasons compare with."""

    @property
    def kinds(self) -> list[str]:
        """The kinds of models that are trained."""
        return list(dict.fromkeys(self.settings.members)) if self.settings.model == "blend" else [self.settings.model]

    def adopt(self, dataset: Path) -> Plan:
        """Take over what a data set says about features and classes."""
        plan = Plan.read(dataset)
        self.labels = read_labels(dataset)
        self.companions = {name: (dataset / name).read_bytes() for name in COMPANIONS if (dataset / name).exists()}
        return plan

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the data set that prepare wrote; parts that were done before a kill are taken from `work`.

        Returns {"metrics" (on rows that no model saw: validation, and with folds the training rows out of fold),
        "history" (a row a fold), "curve", "seconds", "peak_memory_mb", "parameters", "rows_per_s" ...}.
        """
        from llmops.engine.memory import PeakMemory

        began = time.monotonic()
        plan = self.adopt(dataset)
        train, valid = Arrays.read(dataset, "train"), Arrays.read(dataset, "valid")
        if not len(train) or not len(valid):
            raise DataError("there are no rows to train or to validate on.", str(dataset), "give more rows")
        with PeakMemory() as memory:
            history = self._fit(plan, self._weighed(train), valid, work, room, listener)
        seconds = time.monotonic() - began
        last = history[-1]
        return {
            "metrics": {name: value for name, value in last.items() if name not in ("epoch", "seconds")},
            "history": history,
            "curve": [],
            "best_epoch": len(history),
            "epochs": len(history),
            "seconds": seconds,
            "rows_per_s": len(train) * len(self.kinds) * len(history) / max(seconds, 1e-9),
            "tokens_per_s": None,
            "peak_memory_mb": memory.peak_mb,
            "padding": None,
            "spent": {},
            "machine": {"precision": "float32"},
            "parameters": self.parameters(),
        }

    def _weighed(self, train: Arrays) -> Arrays:
        """The training rows with their classes' weights."""
        if self.settings.class_weights == "none" or not self.labels:
            return train
        counts = np.bincount(train.y, weights=train.weight, minlength=len(self.labels))
        return replace(train, weight=(train.weight * (counts.sum() / len(counts) / counts)[train.y]).astype(np.float32))

    def _fit(
        self, plan: Plan, train: Arrays, valid: Arrays, work: Path, room: Room, listener: Listener | None
    ) -> list[dict[str, float]]:
        folds, classes = folds_of(self.settings, len(train)), len(self.labels)
        maker = PartMaker(self.settings, classes, plan.directions, self.seed, work, room)
        maker.begin(train, valid)
        fold = assigned(train, folds, classes, self.seed) if folds > 1 else np.full(len(train), -1)
        honest = Honest(*(np.concatenate(pair) for pair in ((train.y, valid.y), (train.weight, valid.weight))))
        outputs = classes if classes > 2 else 1
        honest.raw = {kind: np.full((len(honest.truth), outputs), np.nan) for kind in self.kinds}
        members: dict[str, list[Fitted]] = {kind: [] for kind in self.kinds}
        history: list[dict[str, float]] = []
        began = time.monotonic()
        with room.progress("training", folds * len(self.kinds)) as bar:
            for number in range(folds):
                inside, outside = fold != number, np.flatnonzero(fold == number)
                rows = train if inside.all() else train.take(np.flatnonzero(inside))
                held_out = valid if folds == 1 else train.take(outside)
                held_out = held_out.take(np.flatnonzero(held_out.y >= 0)) if classes else held_out
                for kind in self.kinds:
                    done = float(len(members[kind]) * len(self.kinds) + self.kinds.index(kind))
                    made = maker.make(Part(kind, number), rows, held_out, lambda note, at=done: bar.update(at, note))
                    members[kind].append(made)
                    honest.raw[kind][outside] = made.raw(train.x[outside])
                    _mean_into(honest.raw[kind][len(train) :], made.raw(valid.x), number)
                    bar.update(done + 1)
                history.append(self._told(honest, number + 1, time.monotonic() - began))
                if listener is not None and listener(number + 1, history[-1]):
                    break
        self._conclude(honest.known(), members, np.nan_to_num(_means(train)))
        history[-1] |= self._figures(honest.known(), self._weights)
        return history

    def _told(self, honest: Honest, number: int, seconds: float) -> dict[str, float]:
        even = dict.fromkeys(self.kinds, 1.0 / len(self.kinds))
        return {"epoch": number, **self._figures(honest.known(), even), "seconds": round(seconds, 3)}

    def _figures(self, honest: Honest, weights: dict[str, float]) -> dict[str, float]:
        raw = honest.blended(weights)
        settled = settle(self.section, raw, honest.truth, honest.weight, len(self.labels))
        return figures(self.section, settled, raw, honest.truth, honest.weight)

    def _conclude(self, honest: Honest, members: dict[str, list[Fitted]], centre: Floats) -> None:
        """Weigh the kinds, and settle what is settled on honest answers."""
        classes = len(self.labels)
        self._weights = chosen_weights(honest.raw, honest.truth, honest.weight, classes)
        self.settled = settle(self.section, honest.blended(self._weights), honest.truth, honest.weight, classes)
        kept = [
            (one, share / len(members[kind])) for kind, share in self._weights.items() if share for one in members[kind]
        ]
        self.model = Blend([one for one, _ in kept], [weight for _, weight in kept])
        self.centre = centre

    def trained(self) -> Blend:
        if self.model is None:
            raise LlmopsError("a model was used before it was trained or loaded")
        return self.model

    def parameters(self) -> int:
        """Numbers in the model."""
        return sum(values.size for values in self.trained().tensors().values())

    def predict(self, dataset: Path, split: str) -> Floats:
        """Raw answers to a split, float64 [rows, outputs]."""
        return self.trained().raw(Arrays.read(dataset, split).x)

    def save(self, folder: Path) -> None:
        """Write model.safetensors, model.json, and what the model needs of its data set."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {**self.trained().tensors(), "centre": self.centre}
        save_file({name: np.ascontiguousarray(v) for name, v in tensors.items()}, folder / "model.safetensors")
        for name, content in self.companions.items():
            (folder / name).write_bytes(content)
        about = {
            "format": FORMAT,
            "model": self.settings.model,
            "train": self.settings.plain(),
            "settled": self.settled,
            **self.trained().about(),
        }
        write_json(folder / "model.json", about)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises DataError when it is missing, torn or newer than this llmops."""
        from safetensors.numpy import load_file

        try:
            about = json.loads((folder / "model.json").read_bytes())
            if about["format"] > FORMAT:
                raise DataError(f"the model has format {about['format']}", str(folder), "upgrade llmops")
            tensors = load_file(folder / "model.safetensors")
            self.settings = TabularTrainSection(**about["train"])
            self.adopt(folder)
            self.centre = tensors.pop("centre")
            self.model, self.settled = rebuilt(about, tensors), about["settled"]
        except DataError:
            raise
        except Exception as problem:  # safetensors raises kinds of its own
            raise DataError(f"the model cannot be read: {problem!r}", str(folder), "run train again") from problem

    def export(self, folder: Path) -> list[Path]:
        """Write model.onnx, what reasons are worked out from, the features, and settings.json; see export.py."""
        from llmops.tasks.tabular.export import write_onnx
        from llmops.tasks.tabular.reasons import write_reasons

        folder.mkdir(parents=True, exist_ok=True)
        plan = Plan.read_bytes(self.companions[FEATURES])
        written = [write_onnx(self.trained(), len(plan.names), folder / "model.onnx")]
        written += write_reasons(self.trained(), plan, self.centre, folder)
        (folder / FEATURES).write_bytes(self.companions[FEATURES])
        write_json(folder / "settings.json", self.settled)
        return [*written, folder / FEATURES]

    def probe(self, source: Path, seconds: float, room: Room) -> dict[str, float]:
        """What the training would take here; see probe.py."""
        from llmops.tasks.tabular.probe import probe

        return probe(self, source, seconds, room)


def _mean_into(mean: Floats, answers: Floats, before: int) -> None:
    """Make `mean`, of `before` answers, the mean of one more."""
    mean[:] = answers if before == 0 else mean + (answers - mean) / (before + 1)


def _means(train: Arrays) -> Floats:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a single value has no mean
        return np.asarray(np.nanmean(train.x, axis=0, dtype=np.float64))
