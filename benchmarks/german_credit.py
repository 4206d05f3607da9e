"""German credit: llmops beside scikit-learn's logistic regression and histogram trees and LightGBM, on the same folds.

    python benchmarks/german_credit.py ../shared/data/german_credit/german.csv [--seeds 0 1 2] [--trials 4]

Ten stratified folds for each seed; every method answers the same held-out rows. `llmops` is what a user gets: the rows
of a fold's training part are split (a twentieth validates: folds do the rest), encoded, trained with the default
settings, and tuned by the stage `tune` on these rows alone; the winner answers. `default` is the same without tune. The
others see categories one-hot.
Each method runs in a process of its own, with one thread: seconds are of all ten folds, peak memory
is the process's. Costs by the data set's own matrix: a bad customer called good 5, the reverse 1; our threshold is the
one that training settled, the others' 0.5. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.quiet import Quiet

TARGET, EVENT = "credit", "2"
MISSED, ALARM = 5.0, 1.0
FOLDS = 10
VALID = 0.05
SPACE: dict[str, Any] = {
    "trees.leaves": {"choice": [4, 8, 12]},
    "trees.columns": {"uniform": [0.2, 0.5]},
    "trees.min_rows": {"log": [5, 20]},
}
Floats = np.ndarray[Any, Any]
Answers = tuple[Floats, Floats]
"""(score, whether it counts as an event) of each held-out row."""


class Table:
    """The rows: columns as text, which of them are numbers, the event."""

    def __init__(self, path: Path) -> None:
        with path.open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        self.columns = {name: [row[name] for row in rows] for name in rows[0] if name != TARGET}
        self.event = np.array([row[TARGET] == EVENT for row in rows])
        self.numbers = [name for name, cells in self.columns.items() if all(cell.isdigit() for cell in cells)]

    def one_hot(self) -> Floats:
        """float64 [rows, features]: numbers, and one column for each value of a category."""
        found = [np.array(self.columns[name], float) for name in self.numbers]
        for name, cells in self.columns.items():
            if name not in self.numbers:
                found += [np.array([cell == value for cell in cells], float) for value in sorted(set(cells))]
        return np.stack(found, axis=1)

    def folds(self, seed: int) -> list[tuple[Floats, Floats]]:
        """(training, held-out) rows of each fold."""
        from sklearn.model_selection import StratifiedKFold

        parts = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        return list(parts.split(np.zeros(len(self.event)), self.event))


def llmops(table: Table, train: Floats, test: Floats, seed: int, trials: int) -> Answers:
    """What a user of llmops gets; `trials` 0: without tune."""
    from llmops.core.protocols import Job, Places, Task
    from llmops.stages.tune.config import TuneSection
    from llmops.stages.tune.stage import TuneStage
    from llmops.tasks.tabular import Tabular
    from llmops.tasks.tabular.calibration import apply
    from llmops.tasks.tabular.learner import TabularLearner

    section, settings = sections(table)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        dataset = prepared(table, train, test, seed, place / "dataset")
        room = Quiet(place)
        learner = TabularLearner(section, settings, seed)
        found = learner.train(dataset, place / "work", room)
        if trials:
            room.out, room.work = place / "out", place / "tune"
            room.out.mkdir()
            learner.save(place / "model")
            (place / "model" / "history.json").write_text(json.dumps(found))
            tune = TuneSection(space=SPACE, trials=trials)
            inputs = {"dataset": dataset, "model": place / "model"}
            blocks = {"task": section, "train": settings, "tune": tune}
            TuneStage().run(Job("german", blocks, cast(Task, Tabular()), inputs, room, Places(*[place] * 4), seed))
            learner = TabularLearner(section, settings, seed)
            learner.load(room.out / "model")
        score = apply(learner.predict(dataset, "test"), learner.settled["calibration"])[:, 1]
        return score, score >= learner.settled["threshold"]


def sections(table: Table, **train: Any) -> tuple[Any, Any]:
    """The blocks `task:` and `train:`."""
    from llmops.core.accept import CostsSection
    from llmops.tasks.tabular.config import BriefedSection, TabularTrainSection

    fields = {name: {"kind": "number" if name in table.numbers else "category"} for name in table.columns}
    costs = CostsSection(missed=MISSED, alarm=ALARM)
    section = BriefedSection(target=TARGET, positive=EVENT, fields=fields, costs=costs)
    return section, TabularTrainSection(**train)


def prepared(table: Table, train: Floats, test: Floats, seed: int, out: Path) -> Path:
    """The data set of a fold, as prepare's encoder writes it."""
    import pyarrow as pa

    from llmops.fields import kind_of
    from llmops.fields.rows import Columned
    from llmops.tasks.tabular.encoder import TabularEncoder

    section, settings = sections(table)
    cells = {name: kind_of(section.fields[name]).read_column(pa.array(v)).values for name, v in table.columns.items()}
    labels = pa.array(np.where(table.event, EVENT, "1"))
    rows = Columned(pa.table(cells)).with_values("label", labels)
    order = np.random.default_rng(seed).permutation(train)
    valid = round(VALID * len(order))
    splits = {"train": rows.take(order[valid:]), "valid": rows.take(order[:valid]), "test": rows.take(test)}
    TabularEncoder(section, settings).prepare(splits, out)
    return out


def rival(make: Callable[[], Any]) -> Callable[[Table, Floats, Floats], Answers]:
    """A scikit-learn classifier on one-hot columns, decided at 0.5."""

    def answer(table: Table, train: Floats, test: Floats) -> Answers:
        x = table.one_hot()
        score = make().fit(x[train], table.event[train]).predict_proba(x[test])[:, 1]
        return score, score >= 0.5

    return answer


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _histogram() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=0)


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(verbose=-1, num_threads=1)


RIVALS = {"logistic regression": _logistic, "histogram trees": _histogram, "lightgbm": _lightgbm}
METHODS = ("llmops", "default", *RIVALS)


def worked(table: Table, method: str, seed: int, trials: int) -> dict[str, Any]:
    """One method on all folds of a seed: {"auc" of each fold, "cost" a row, "seconds", "peak_memory_mb"}."""
    from sklearn.metrics import roc_auc_score

    from llmops.engine.memory import resident_peak_mb

    began, aucs, costs = time.perf_counter(), [], []
    for train, test in table.folds(seed):
        if method in RIVALS:
            score, alarm = rival(RIVALS[method])(table, train, test)
        else:
            score, alarm = llmops(table, train, test, seed, trials if method == "llmops" else 0)
        event = table.event[test]
        aucs.append(float(roc_auc_score(event, score)))
        costs.append(float((MISSED * (event & ~alarm) + ALARM * (~event & alarm)).mean()))
        sys.stderr.write(f"{method}, seed {seed}, fold {len(aucs)}: {aucs[-1]:.4f}\n")
    seconds = time.perf_counter() - began
    return {"auc": aucs, "cost": float(np.mean(costs)), "seconds": seconds, "peak_memory_mb": resident_peak_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--alone", action="store_true", help="run the first method and seed in this process")
    asked = parser.parse_args()
    if asked.alone:
        sys.stdout.write(json.dumps(worked(Table(asked.path), asked.methods[0], asked.seeds[0], asked.trials)) + "\n")
        return
    found = {method: [alone(asked, method, seed) for seed in asked.seeds] for method in asked.methods}
    sys.stdout.write(table_of(found) + json.dumps(found) + "\n")


def table_of(found: dict[str, list[dict[str, Any]]]) -> str:
    """One line a method."""
    lines = [f"{'':20} {'ROC AUC':>8} {'cost':>6} {'s':>7} {'MB':>6}  by seed"]
    for method, runs in found.items():
        seeds = " ".join(f"{np.mean(run['auc']):.4f}" for run in runs)
        auc, cost, seconds = (np.mean([np.mean(run[name]) for run in runs]) for name in ("auc", "cost", "seconds"))
        peak = max(run["peak_memory_mb"] for run in runs)
        lines.append(f"{method:20} {auc:8.4f} {cost:6.3f} {seconds:7.1f} {peak:6.0f}  {seeds}")
    return "\n".join(lines) + "\n"


def alone(asked: Any, method: str, seed: int) -> dict[str, Any]:
    """One method and seed in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.german_credit", str(asked.path), "--alone"]
    command += ["--methods", method, "--seeds", str(seed), "--trials", str(asked.trials)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
