"""Samplers that can be killed: what a trial gets depends only on the seed, its number and the finished trials.

Optuna does not store a sampler's random state in the study, so a study that is carried on would go another
way. Here every question to a sampler is answered by a fresh one with a seed of its own.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from optuna import distributions as optuna_distributions
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from llmops.core.section import Section
from llmops.stages.tune.config import TuneSection
from llmops.stages.tune.space import Picks, Space, annotation_of, grid, number_kind


class SeededSampler(BaseSampler):
    """Asks a fresh inner sampler, made by `make(seed)`, for every trial and parameter."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed

    def _inner(self, trial: FrozenTrial, name: str = "") -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{name}".encode()).digest()
        return self._make(int.from_bytes(digest[:4], "big"))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = self._inner(trial).infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        picks: dict[str, Any] = self._inner(trial).sample_relative(study, trial, search_space)
        return picks

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner(trial, param_name).sample_independent(study, trial, param_name, param_distribution)


class GridSampler(BaseSampler):
    """Trial number n takes row n of `rows`."""

    def __init__(self, rows: list[Picks]) -> None:
        self._rows = rows

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._rows[trial.number][param_name]


def grid_rows(tune: TuneSection, train: type[Section], seed: int) -> list[Picks]:
    """The grid in a seeded random order, so that a budget that ends early has seen all corners alike."""
    rows = grid(tune.space, train, tune.grid_points)
    random.Random(seed).shuffle(rows)
    return rows


def sampler(tune: TuneSection, train: type[Section], seed: int) -> BaseSampler:
    """The sampler that `tune` asks for. Trial 0 is never sampled: it is the trained model."""
    if tune.sampler == "grid":
        return GridSampler([{}, *grid_rows(tune, train, seed)])
    if tune.sampler == "random":
        return SeededSampler(lambda s: RandomSampler(seed=s), seed)
    # Optuna's default of 10 random trials would leave nothing for the model in a budget of 10.
    startup = max(3, min(10, tune.trials // 4))
    return SeededSampler(lambda s: TPESampler(seed=s, n_startup_trials=startup), seed)


def distributions(space: Space, train: type[Section]) -> dict[str, BaseDistribution]:
    """The axes in Optuna's words; `choice` is a category over indices."""
    made: dict[str, BaseDistribution] = {}
    for name, axis in space.items():
        span = axis.log or axis.uniform
        if span is None:
            made[name] = optuna_distributions.CategoricalDistribution(tuple(range(len(axis.choice or []))))
        elif number_kind(annotation_of(train, name)) is int:
            made[name] = optuna_distributions.IntDistribution(int(span[0]), int(span[1]), log=axis.log is not None)
        else:
            made[name] = optuna_distributions.FloatDistribution(*span, log=axis.log is not None)
    return made
