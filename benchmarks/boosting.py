"""Which library grows the trees: LightGBM, XGBoost, CatBoost, scikit-learn, at like settings, on the same folds.

    python benchmarks/boosting.py ../shared/data/german_credit/german.csv

Three times ten stratified folds of German credit (one-hot), and 80,000 drawn rows of 30 columns with 20,000 to judge
by; 200 trees, learning rate 0.05, 8 leaves each, one thread. Only LightGBM and scikit-learn come with llmops: install
the others beside it (`pip install xgboost-cpu catboost`) to have them in the table. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.german_credit import Table

TREES, RATE, LEAVES, DEPTH = 200, 0.05, 8, 3
SEEDS, ROWS, LEARNT = 3, 100_000, 80_000


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=TREES, learning_rate=RATE, num_leaves=LEAVES, verbose=-1, num_threads=1)


def _xgboost() -> Any:
    from xgboost import XGBClassifier

    grown = {"max_leaves": LEAVES, "grow_policy": "lossguide", "tree_method": "hist"}
    return XGBClassifier(n_estimators=TREES, learning_rate=RATE, n_jobs=1, **grown)


def _catboost() -> Any:
    from catboost import CatBoostClassifier

    quiet = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return CatBoostClassifier(iterations=TREES, learning_rate=RATE, depth=DEPTH, **quiet)


def _histogram() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings: dict[str, Any] = {"max_leaf_nodes": LEAVES, "early_stopping": False}
    return HistGradientBoostingClassifier(max_iter=TREES, learning_rate=RATE, **settings)


MAKERS: dict[str, Callable[[], Any]] = {
    "lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost, "scikit-learn": _histogram,
}  # fmt: skip


def drawn() -> tuple[Any, Any]:
    """Rows of 30 columns, of which four matter."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 30)).astype(np.float32)
    score = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3] - 1
    return x, rng.random(ROWS) < 1 / (1 + np.exp(-score))


def judged(make: Callable[[], Any], table: Table) -> dict[str, float]:
    """Quality and seconds of one library."""
    from sklearn.metrics import roc_auc_score

    x, areas, began = table.one_hot(), [], time.perf_counter()
    for seed in range(SEEDS):
        for train, test in table.folds(seed):
            score = make().fit(x[train], table.event[train]).predict_proba(x[test])[:, 1]
            areas.append(roc_auc_score(table.event[test], score))
    german_s, (rows, event) = time.perf_counter() - began, drawn()
    began = time.perf_counter()
    model = make().fit(rows[:LEARNT], event[:LEARNT])
    drawn_s = time.perf_counter() - began
    area = roc_auc_score(event[LEARNT:], model.predict_proba(rows[LEARNT:])[:, 1])
    return {"german_auc": float(np.mean(areas)), "german_s": german_s, "drawn_auc": float(area), "drawn_s": drawn_s}


def main() -> None:
    """Measure those that are installed, and print."""
    table, found = Table(Path(sys.argv[1])), {}
    for name, make in MAKERS.items():
        try:
            make()
        except ModuleNotFoundError:
            sys.stderr.write(f"{name} is not installed\n")
            continue
        found[name] = {figure: round(value, 4) for figure, value in judged(make, table).items()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
