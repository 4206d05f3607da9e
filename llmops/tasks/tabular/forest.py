"""A random forest, grown by LightGBM and kept as plain arrays: where rows are few, its many different deep trees err
otherwise than boosted ones and a linear model do, and the average of all three is better than each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import ForestSection
from llmops.tasks.tabular.fitted import TreesFitted
from llmops.tasks.tabular.trees import as_arrays, common


def fit_forest(
    rows: Arrays, classes: int, settings: ForestSection, directions: Sequence[int], seed: int
) -> TreesFitted:
    """Trees grown apart on rows drawn by chance, each split looking at features drawn by chance (Breiman 2001).

    A leaf's value is one Newton step from the overall rate, so that their mean is in log-odds to first order, and may
    be averaged with, and told apart into columns like, the answers of other models.
    """
    import lightgbm as lgb

    data = lgb.Dataset(rows.x, rows.y, weight=rows.weight, params={"verbose": -1}, free_raw_data=True)
    booster = lgb.train(parameters(classes, settings, directions, seed, len(rows)), data, settings.trees)
    fitted = as_arrays(booster.dump_model(), classes)
    value = fitted.value.copy()
    alone = np.flatnonzero(fitted.feature[fitted.root] < 0)  # LightGBM leaves the overall rate out where nothing grew
    value[fitted.root[alone]] = rows.overall(classes)[fitted.output[alone]]
    return replace(fitted, value=value * len(fitted.base) / len(fitted.root))


def parameters(
    classes: int, settings: ForestSection, directions: Sequence[int], seed: int, rows: int
) -> dict[str, Any]:
    """LightGBM's parameters."""
    return {
        **common(classes, directions, seed),
        "boosting": "rf",
        "num_leaves": settings.leaves,
        "max_depth": settings.depth,
        "min_data_in_leaf": min(settings.min_rows, max(1, rows // 4)),
        "min_sum_hessian_in_leaf": 0.0,
        "feature_fraction_bynode": settings.columns,
        "bagging_fraction": settings.rows,
        "bagging_freq": 1,
    }
