"""TabularLearner: trains, answers, saves and exports a model of a table."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_json
from llmops.core.errors import DataError, LlmopsError
from llmops.core.protocols import Listener, Room
from llmops.tasks.tabular.arrays import Arrays, read_labels
from llmops.tasks.tabular.config import TabularSection, TabularTrainSection
from llmops.tasks.tabular.features import FILE as FEATURES
from llmops.tasks.tabular.features import Plan
from llmops.tasks.tabular.fitted import Blend, rebuilt
from llmops.tasks.tabular.folds import MIDDLING, SMALL, PartMaker, folds_of
from llmops.tasks.tabular.quality import figures
from llmops.tasks.tabular.settle import settle
from llmops.tasks.tabular.training import Honest, Training

FORMAT = 1
COMPANIONS = (FEATURES, "labels.json")
"""Files of the data set that a model needs."""
Floats = np.ndarray[Any, Any]


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

    def kinds(self, rows: int) -> list[str]:
        """The kinds of models that are trained on so many rows."""
        if self.settings.model != "blend":
            return [self.settings.model]
        if self.settings.members != "auto":
            return list(dict.fromkeys(self.settings.members))
        return ["linear", "trees", *(["network"] if rows < MIDDLING else []), *(["forest"] if rows < SMALL else [])]

    def adopt(self, dataset: Path) -> Plan:
        """Take over what a data set says about features and classes."""
        plan = Plan.read(dataset)
        self.labels = read_labels(dataset)
        self.companions = {name: (dataset / name).read_bytes() for name in COMPANIONS if (dataset / name).exists()}
        return plan

    def train(self, dataset: Path, work: Path, room: Room, listener: Listener | None = None) -> dict[str, Any]:
        """Train on the data set that prepare wrote; parts that were done before a kill are taken from `work`.

        Returns {"metrics" (on rows that no model saw: validation, and with folds the training rows out of fold),
        "history" (a row a fold, or a kind), "curve", "seconds", "spent" (seconds by phase), "peak_memory_mb",
        "parameters", "rows_per_s" ...}.
        """
        from llmops.engine.memory import PeakMemory

        began = time.monotonic()
        plan = self.adopt(dataset)
        train, valid = Arrays.read(dataset, "train"), Arrays.read(dataset, "valid")
        if not len(train) or not len(valid):
            raise DataError("there are no rows to train or to validate on.", str(dataset), "give more rows")
        with PeakMemory() as memory:
            training = self._posed(plan, train, valid, work, room)
            self._conclude(training, training.run(room, listener))
        seconds = time.monotonic() - began
        history = training.history
        return {
            "metrics": {name: value for name, value in history[-1].items() if name not in ("epoch", "seconds")},
            "history": history,
            "curve": [],
            "best_epoch": len(history),
            "epochs": len(history),
            "seconds": seconds,
            "rows_per_s": len(train) * len(training.kinds) * training.folds / max(seconds, 1e-9),
            "tokens_per_s": None,
            "peak_memory_mb": memory.peak_mb,
            "padding": None,
            "spent": training.spent,
            "machine": {"precision": "float32"},
            "parameters": self.parameters(),
        }

    def _weighed(self, train: Arrays) -> Arrays:
        """The training rows with their classes' weights."""
        if self.settings.class_weights == "none" or not self.labels:
            return train
        counts = np.bincount(train.y, weights=train.weight, minlength=len(self.labels))
        share = counts.sum() / len(counts) / np.where(counts > 0, counts, 1.0)  # rows of no weight keep none
        return replace(train, weight=(train.weight * share[train.y]).astype(np.float32))

    def _posed(self, plan: Plan, train: Arrays, valid: Arrays, work: Path, room: Room) -> Training:
        folds, classes = folds_of(self.settings, len(train)), len(self.labels)
        maker = PartMaker(self.settings, classes, plan.directions, self.seed, work, room)
        maker.begin(train, valid)
        fold = train.parts(folds, classes, self.seed) if folds > 1 else np.full(len(train), -1)
        kinds = self.kinds(len(train))
        return Training(kinds, train, self._weighed(train), valid, fold, folds, classes, maker, self._figures)

    def _figures(self, raw: Floats, honest: Honest) -> dict[str, float]:
        settled = settle(self.section, raw, honest.truth, honest.weight, len(self.labels))
        return figures(self.section, settled, raw, honest.truth, honest.weight)

    def _conclude(self, training: Training, weights: dict[str, float]) -> None:
        """Keep the blend, and settle what is settled on honest answers."""
        honest = training.honest.known()
        raw = honest.blended(weights)
        self.settled = settle(self.section, raw, honest.truth, honest.weight, len(self.labels))
        self.model = training.blend(weights)
        self.centre = np.nan_to_num(_means(training.train))

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

        found: dict[str, float] = probe(self, source, seconds, room)
        return found


def _means(train: Arrays) -> Floats:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a single value has no mean
        return np.asarray(np.nanmean(train.x, axis=0, dtype=np.float64))
