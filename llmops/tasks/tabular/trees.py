"""Boosted trees, grown by LightGBM and kept as plain arrays. Why LightGBM: docs/decisions/0004-tables.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import TreesSection
from llmops.tasks.tabular.fitted import TreesFitted

Told = Callable[[int, float], bool]
"""Hears (round, loss on the held-out rows) now and then; returns True to stop."""
EVERY = 25
"""Rounds between two words to the listener."""
FEW = 5_000
"""Rows below which `auto` grows small trees that differ."""


def fit_trees(
    rows: Arrays,
    held_out: Arrays,
    classes: int,
    settings: TreesSection,
    directions: Sequence[int],
    seed: int,
    told: Told | None = None,
) -> TreesFitted:
    """Grown on `rows` until the loss on `held_out` gets no better; the best number of rounds is kept."""
    import lightgbm as lgb

    data = lgb.Dataset(rows.x, rows.y, weight=rows.weight, params={"verbose": -1}, free_raw_data=True)
    watched = lgb.Dataset(held_out.x, held_out.y, weight=held_out.weight, reference=data)
    booster = lgb.train(
        parameters(classes, settings, directions, seed, len(rows)),
        data,
        settings.rounds,
        valid_sets=[watched],
        callbacks=[lgb.early_stopping(settings.patience, verbose=False), _telling(told)],
    )
    fitted = as_arrays(booster.dump_model(num_iteration=booster.best_iteration or -1), classes)
    return _bounded(fitted, float(rows.weight.sum())) if classes else fitted


def parameters(classes: int, settings: TreesSection, directions: Sequence[int], seed: int, rows: int) -> dict[str, Any]:
    """LightGBM's parameters; what is `auto` goes by the number of rows."""
    auto: dict[str, Any] = {"learning_rate": 0.03, "leaves": 8, "columns": 0.3}
    if rows >= FEW:
        auto = {"learning_rate": 0.05, "leaves": 16, "columns": 0.8}
    chosen = {name: auto[name] if getattr(settings, name) == "auto" else getattr(settings, name) for name in auto}
    return {
        **common(classes, directions, seed),
        "learning_rate": chosen["learning_rate"],
        "num_leaves": chosen["leaves"],
        "max_depth": settings.depth,
        "min_data_in_leaf": min(settings.min_rows, max(1, rows // 4)),
        "feature_fraction": chosen["columns"],
        "bagging_fraction": settings.rows,
        "bagging_freq": 1 if settings.rows < 1 else 0,
        "lambda_l2": settings.l2,
        "extra_trees": settings.extra,
    }


def common(classes: int, directions: Sequence[int], seed: int) -> dict[str, Any]:
    """Parameters of boosted trees and forests alike: what is learnt, and that the same comes out every time."""
    from llmops.core.threads import cores

    asked = os.environ.get("OMP_NUM_THREADS", "")
    found: dict[str, Any] = {
        "objective": {0: "regression", 2: "binary"}.get(classes, "multiclass"),
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": int(asked) if asked.isdigit() else cores(),
        "verbose": -1,
        **({"num_class": classes} if classes > 2 else {}),
    }
    if any(directions) and classes <= 2:
        # LightGBM's methods "intermediate" and "advanced" break some directions (1 and 14 of 144 that were tried).
        found |= {"monotone_constraints": list(directions), "monotone_constraints_method": "basic"}
    return found


def _telling(told: Told | None) -> Callable[[Any], None]:
    import lightgbm as lgb

    def tell(env: Any) -> None:
        if told is None or (env.iteration + 1) % EVERY:
            return
        loss = env.evaluation_result_list[0][2]
        if told(env.iteration + 1, float(loss)):
            raise lgb.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    return tell


def as_arrays(dumped: dict[str, Any], classes: int) -> TreesFitted:
    """LightGBM's own description of its trees as arrays."""
    nodes: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "left", "right", "missing_left")}
    nodes |= {"value": [], "cover": []}
    roots, outputs = [], []
    width = classes if classes > 2 else 1
    for number, tree in enumerate(dumped["tree_info"]):
        roots.append(len(nodes["feature"]))
        outputs.append(number % width)
        _add(nodes, tree["tree_structure"])
    kinds = {"feature": np.int32, "threshold": np.float32, "left": np.int32, "right": np.int32, "missing_left": bool}
    arrays = {name: np.array(values, kinds.get(name, np.float64)) for name, values in nodes.items()}
    return TreesFitted(
        **arrays, root=np.array(roots, np.int32), output=np.array(outputs, np.int32), base=np.zeros(width)
    )


def _bounded(fitted: TreesFitted, weight: float) -> TreesFitted:
    """LightGBM is sure beyond measure (log-odds of 35) that a class of which it saw no row never comes; it is let be as
    sure as half a row beside all that it saw allows."""
    most = np.log(2 * weight + 1)
    alone = fitted.feature < 0
    alone &= np.isin(np.arange(len(alone)), fitted.root)
    return replace(fitted, value=np.where(alone, np.clip(fitted.value, -most, most), fitted.value))


def _add(nodes: dict[str, list[Any]], node: dict[str, Any]) -> int:
    """Append a node and all below it; returns its number."""
    place = len(nodes["feature"])
    leaf = "split_feature" not in node
    threshold = 0.0 if leaf else float(node["threshold"])
    # A feature that had no missing values in training: LightGBM then takes a missing one for 0.
    missing = node.get("default_left", True) if node.get("missing_type") == "NaN" else threshold >= 0
    nodes["feature"].append(-1 if leaf else node["split_feature"])
    nodes["threshold"].append(below(threshold))
    nodes["missing_left"].append(missing)
    nodes["left"].append(place)
    nodes["right"].append(place)
    nodes["value"].append(node["leaf_value"] if leaf else 0.0)
    nodes["cover"].append(max(1, node.get("leaf_count", node.get("internal_count", 1))))
    if not leaf:
        nodes["left"][place] = _add(nodes, node["left_child"])
        nodes["right"][place] = _add(nodes, node["right_child"])
    return place


def below(threshold: float) -> np.float32:
    """The largest float32 that is not above a float64 threshold: float32 features compare with both alike."""
    with np.errstate(over="ignore"):  # beyond float32: all that are there lie below
        nearest = np.float32(threshold)
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf))
