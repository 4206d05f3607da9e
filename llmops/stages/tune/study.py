"""The search: one trial after the other in an Optuna study on disk, so that a killed search carries on exactly.

The study (SQLite) holds each trial's picks, its metric after every epoch and its end; a trial's own folder
holds its checkpoints. A trial found running was killed: it is taken up under its own number.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from llmops.core.artifact import fsync_folder, write_json
from llmops.core.errors import LlmopsError
from llmops.core.protocols import Job, Metric
from llmops.core.section import Section
from llmops.engine.update import HISTORY, read_history, told_history, train_from
from llmops.stages.tune import sampling, space
from llmops.stages.tune.config import TuneSection
from llmops.stages.tune.pruning import hopeless

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Clock:
    """Seconds spent on trials, kept in a file so that kills don't win time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spent_s: float = json.loads(path.read_text())["spent_s"] if path.exists() else 0.0
        self._since = time.monotonic()

    def tick(self) -> float:
        """Count the time since the last call; returns the seconds spent in all."""
        now = time.monotonic()
        self.spent_s += now - self._since
        self._since = now
        write_json(self._path, {"spent_s": round(self.spent_s, 3)})
        return self.spent_s


class Search:
    """The search of one job. Trial 0 is the trained model; `run` does the others."""

    def __init__(self, job: Job, name: str = "tune") -> None:
        """`name` is the study's, and its folder's."""
        self.job, self.dataset = job, job.inputs["dataset"]
        self.tune = job.section("tune", TuneSection)
        self.told = read_history(job.inputs["model"])
        self.train = as_trained(job.sections["train"], self.told)
        self.metric = job.task.metric(job.sections["task"])
        self.folder = job.room.work / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = _open(self.folder, sampling.sampler(self.tune, type(self.train), job.seed), self.metric)
        self.distributions = sampling.distributions(self.tune.space, type(self.train))
        self.clock = Clock(self.folder / "clock.json")
        self.trials: list[FrozenTrial] = []
        """All finished trials in their order."""

    def run(self) -> None:
        """Do trials until the budget is spent; afterwards `trials` holds them all."""
        self.begin()
        self._look()
        while trial := self._next():
            self._finish(trial)
            self._look()
            self._drop_losers()

    def begin(self) -> None:
        """Enter trial 0, the trained model, where the study is new."""
        if not self.study.get_trials(deepcopy=False):
            self._add_own()

    def propose(self, picks: dict[str, Any]) -> None:
        """Have the next trial take these values; once only, however often the search is carried on."""
        self.begin()
        self.study.enqueue_trial(picks, skip_if_exists=True)

    def keep(self, learner: Any, found: dict[str, Any], number: int) -> None:
        """Keep a trial's model, the best so far."""
        _save_whole(learner, found, self.model(number))

    def winner(self) -> FrozenTrial:
        """The best complete trial; on a tie the earliest, so that trial 0 yields only to a better one."""
        complete = [trial for trial in self.trials if trial.state is TrialState.COMPLETE]
        return max(complete, key=lambda trial: (self.goodness(float(trial.value or 0)), -trial.number))

    def goodness(self, value: float) -> float:
        """A value of the metric so that higher is better."""
        return self.metric.gain(value, 0.0)

    def model(self, number: int) -> Path:
        """The folder in which the trial's model lies when it was the best so far."""
        return self._trial_folder(number) / "model"

    def size(self) -> int:
        """Trials at most, trial 0 included."""
        if self.tune.sampler != "grid":
            return self.tune.trials
        return min(self.tune.trials, 1 + len(sampling.grid_rows(self.tune, type(self.train), self.job.seed)))

    def section(self, trial: FrozenTrial) -> Section:
        """The train section that a trial stands for."""
        return space.with_settings(self.train, trial.user_attrs.get("settings", {}))

    def _add_own(self) -> None:
        """Trial 0: what train already found out; only a model that came without its history is trained again."""
        found = self.told or self._train_own()
        picks = space.own_picks(self.tune.space, self.train)
        values = {epoch: float(row[self.metric.name]) for epoch, row in enumerate(found["history"], start=1)}
        self.study.add_trial(
            optuna.trial.create_trial(
                params=picks,
                distributions={name: self.distributions[name] for name in picks},
                value=float(found["metrics"][self.metric.name]),
                intermediate_values=values,
                user_attrs={"settings": {}, "epochs": len(values), "note": "the trained model"},
            )
        )

    def _look(self) -> None:
        self.trials = self.study.get_trials(deepcopy=False, states=FINISHED)

    def _train_own(self) -> dict[str, Any]:
        learner = self.job.task.learner(self.job.sections["task"], self.train, self.job.seed)
        work = self._trial_folder(0) / "fit"
        return train_from(self.job.base, learner, self.dataset, work, self.job.room)

    def _next(self) -> Trial | None:
        """The trial that a kill interrupted, else a new one, else None: the budget is spent."""
        for running in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            return Trial(self.study, running._trial_id)
        begun = sum(trial.state is not TrialState.WAITING for trial in self.study.get_trials(deepcopy=False))
        return None if begun >= self.size() or self.late() else self.study.ask()

    def late(self) -> bool:
        return self.tune.seconds is not None and self.clock.tick() >= self.tune.seconds

    def _finish(self, trial: Trial) -> None:
        """Bring one trial to its end and tell the study."""
        chosen = space.settings(self.tune.space, draw(trial, self.distributions))
        trial.set_user_attr("settings", chosen)
        twin = self._twin(chosen)
        if twin is not None:
            trial.set_user_attr("epochs", 0)
            self._tell(trial, twin.state, twin.value, f"same settings as trial {twin.number}")
            return
        self.job.room.say(f"trial {trial.number} of at most {self.size() - 1}: {told(chosen)}")
        if "stopped" in trial.user_attrs:  # killed between the verdict and its record
            self._tell(trial, TrialState.PRUNED, None, trial.user_attrs["stopped"])
            return
        try:
            self._train(trial, space.with_settings(self.train, chosen))
        except LlmopsError as error:  # these settings don't work here (memory, a loss that is no number); others may
            self._tell(trial, TrialState.FAIL, None, str(error))

    def _train(self, trial: Trial, train: Section) -> None:
        learner = self.job.task.learner(self.job.sections["task"], train, self.job.seed)
        work = self._trial_folder(trial.number) / "fit"
        watch = Watch(self, trial, train)
        found = train_from(self.job.base, learner, self.dataset, work, self.job.room, watch)
        self.clock.tick()
        if "stopped" in trial.user_attrs:
            self._tell(trial, TrialState.PRUNED, None, trial.user_attrs["stopped"])
            return
        value = float(found["metrics"][self.metric.name])
        trial.set_user_attr("epochs", len(found["history"]))
        if not math.isfinite(value):
            self._tell(trial, TrialState.FAIL, None, f"{self.metric.name} is not a number")
            return
        if self.metric.gain(value, float(self.winner().value or 0)) > 0:
            self.keep(learner, found, trial.number)
        self._tell(trial, TrialState.COMPLETE, value, trial.user_attrs.get("late", ""))

    def _tell(self, trial: Trial, state: TrialState, value: float | None, note: str) -> None:
        trial.set_user_attr("note", note)
        self.study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
        self.job.room.emit("trial", number=trial.number, state=state.name.lower(), value=value, **trial.user_attrs)

    def _twin(self, chosen: dict[str, Any]) -> FrozenTrial | None:
        """A finished trial with the same settings; training again would give the same model."""
        mine = space.with_settings(self.train, chosen)
        for trial in self.trials:
            if self.section(trial) == mine:
                return trial
        return None

    def _drop_losers(self) -> None:
        """Free the disk: checkpoints of finished trials, and models that are no longer the best."""
        best = self.winner().number
        for trial in self.trials:
            for folder in [
                self._trial_folder(trial.number) / "fit",
                *([] if trial.number == best else [self.model(trial.number)]),
            ]:
                shutil.rmtree(folder, ignore_errors=True)

    def _trial_folder(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}"


class Watch:
    """A trial's listener: records the metric after each epoch and stops the training when it is hopeless or late.

    A training whose settings name no epochs goes in parts (a table's folds), and tells of each but the last."""

    def __init__(self, search: Search, trial: Trial, train: Section) -> None:
        self._search = search
        self._trial = trial
        self._planned: int | None = getattr(train, "epochs", None)
        self._values = dict(search.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        self._earlier = [
            {epoch: search.goodness(value) for epoch, value in other.intermediate_values.items()}
            for other in search.trials
        ]

    def __call__(self, epoch: int, metrics: dict[str, float]) -> bool:
        search = self._search
        if epoch not in self._values:  # a training that carries on tells some epochs twice
            self._values[epoch] = float(metrics[search.metric.name])
            self._trial.report(self._values[epoch], epoch)
        seen = {e: search.goodness(value) for e, value in self._values.items() if e <= epoch}
        last = self._planned is not None and epoch >= self._planned
        if not last and hopeless(search.tune.pruner, seen, self._earlier):
            return self._stop(epoch, f"after epoch {epoch}{self._of()}")
        if not search.late():
            return False
        note = f"out of time after epoch {epoch}{self._of()}"
        if self._planned is None:  # of a training in parts, what stands so far is no figure of the whole
            return self._stop(epoch, note)
        self._trial.set_user_attr("late", note)
        return True

    def _stop(self, epoch: int, note: str) -> bool:
        self._trial.set_user_attr("epochs", epoch)
        self._trial.set_user_attr("stopped", note)
        return True

    def _of(self) -> str:
        return "" if self._planned is None else f" of {self._planned}"


def as_trained(train: Section, told: dict[str, Any]) -> Section:
    """The train section with the precision that the trained model got by `auto`: trials measured one by one could
    differ in it, and would then differ by more than their settings."""
    if getattr(train, "precision", None) != "auto" or "precision" not in told:
        return train
    return space.with_settings(train, {"precision": told["precision"]})


def draw(trial: Trial, distributions: dict[str, BaseDistribution]) -> space.Picks:
    """The trial's picks; those already in the study stand, the others are sampled and stored."""
    picks: space.Picks = {}
    for name, d in distributions.items():
        if isinstance(d, FloatDistribution):
            picks[name] = trial.suggest_float(name, d.low, d.high, log=d.log)
        elif isinstance(d, IntDistribution):
            picks[name] = trial.suggest_int(name, d.low, d.high, log=d.log)
        else:
            picks[name] = trial.suggest_categorical(name, getattr(d, "choices", ()))
    return picks


def told(settings: dict[str, Any]) -> str:
    """Settings for a line of text."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )


def _open(folder: Path, sampler: optuna.samplers.BaseSampler, metric: Metric) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{folder / 'study.db'}"
    direction = "maximize" if metric.higher else "minimize"
    return optuna.create_study(
        storage=url, study_name="tune", direction=direction, sampler=sampler, load_if_exists=True
    )


def _save_whole(learner: Any, found: dict[str, Any], folder: Path) -> None:
    """Save model and history so that the folder appears whole or not at all."""
    half = folder.with_name("model.tmp")
    for left in (half, folder):
        shutil.rmtree(left, ignore_errors=True)
    half.mkdir(parents=True)
    learner.save(half)
    write_json(half / HISTORY, told_history(found))
    half.rename(folder)
    fsync_folder(folder.parent)
