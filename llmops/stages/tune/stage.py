"""The stage `tune`: searches for better settings; the winner replaces the model only when it is strictly better."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Places, Task
from llmops.core.report import Curve, Number, Report, Table
from llmops.core.run import link_or_copy
from llmops.core.section import Section
from llmops.stages.tune.config import TuneSection
from llmops.stages.tune.space import merged, mistakes, value_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from llmops.stages.tune.looks import Looks
    from llmops.stages.tune.study import Search

FEWEST_LOOKS = 2
"""One look is the trained model's own settings."""
STATES = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}


class TuneStage:
    """See the module."""

    name = "tune"
    version = 6

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        settings = {name: sections[name].plain() for name in ("tune", "train")}
        settings["task"] = task.learning(sections["task"])
        updates = settings["train"].get("update") is not None
        return Depends(settings=settings, libraries=("optuna", "torch", "transformers"), base=updates)

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        tune, train = sections["tune"], sections["train"]
        assert isinstance(tune, TuneSection)
        return mistakes(tune.space, train, task.encoding(train).keys())

    def run(self, job: Job) -> Report:
        from llmops.stages.tune.looks import search

        full, looks, planned = search(job)
        winner = full.winner()
        source = full.model(winner.number) if winner.number else job.inputs["model"]
        # Links: neither model is ever changed again, and nothing is stored twice.
        shutil.copytree(source, job.room.out / "model", copy_function=link_or_copy)
        return with_looks(report(full, winner), looks, planned)


def with_looks(told: Report, looks: Looks | None, planned: str) -> Report:
    """The report of the full trainings, and of the looks before them."""
    if looks is None:
        return told
    tried = len(looks.trials)
    told.numbers |= {"looks": tried, "looks_s": round(looks.clock.spent_s, 1)}
    if tried < FEWEST_LOOKS:
        told.headline = planned
        told.warnings.append(planned)
        return told
    best = "the trained model's own settings are the best of them" if not looks.winner().number else "the best of them"
    told.headline = f"{tried} looks at few rows: {best}; {told.headline}"
    shown = table(looks, looks.trials)
    told.tables.append(Table(f"Looks at {looks.tune.look:.0%} of the rows", shown.columns, shown.rows))
    return told


def report(search: Search, winner: FrozenTrial) -> Report:
    """What the search found, for people and gates."""
    trials = search.trials
    own, best = float(trials[0].value or 0), float(winner.value or 0)
    saved = [
        epochs_saved(search, trial) for trial in trials if trial.state.name == "PRUNED" and trial.user_attrs["epochs"]
    ]
    numbers: dict[str, Number] = {
        "trials": len(trials),
        "trials_stopped": len(saved),
        "epochs_saved": sum(saved),
        "took_s": round(search.clock.spent_s, 1),
        f"valid_{search.metric.name}_trained": own,
        f"valid_{search.metric.name}": best,
        "replaced": winner.number > 0,
    }
    return Report(
        headline=headline(search, winner, own, best),
        numbers=numbers,
        tables=[table(search, trials)],
        curves=[best_so_far(search, trials)],
        next=[]
        if winner.number == 0
        else [f"put the winner into your config: {as_yaml(winner.user_attrs['settings'])}"],
    )


def headline(search: Search, winner: FrozenTrial, own: float, best: float) -> str:
    """The outcome in one sentence."""
    metric = search.metric.name
    if winner.number == 0:
        return f"no trial of {len(search.trials) - 1} beat the trained model: {metric} {own:.4f} on validation"
    return f"trial {winner.number} replaces the trained model: {metric} {best:.4f}, not {own:.4f}, on validation"


def table(search: Search, trials: list[FrozenTrial]) -> Table:
    """Every trial: its settings, its metric, the epochs it trained and how it ended."""
    axes = list(search.tune.space)
    rows: list[list[Number]] = []
    for trial in trials:
        shown = [_shown(value_of(search.section(trial), axis)) for axis in axes]
        state = STATES[trial.state.name]
        note = trial.user_attrs.get("note", "")
        reached = max(trial.intermediate_values.values(), key=search.goodness, default=None)
        value = trial.value if trial.state.name == "COMPLETE" else reached
        rows.append(
            [trial.number, *shown, value, trial.user_attrs.get("epochs", 0), f"{state}: {note}" if note else state]
        )
    return Table("Trials", ["trial", *axes, f"valid {search.metric.name}", "epochs", "end"], rows)


def best_so_far(search: Search, trials: list[FrozenTrial]) -> Curve:
    """The best metric after each trial."""
    points: list[tuple[float, float]] = []
    best = float(trials[0].value or 0)  # the trained model
    for trial in trials:
        if trial.state.name == "COMPLETE" and trial.value is not None:
            best = max(best, trial.value, key=search.goodness)
        points.append((float(trial.number), best))
    return Curve("Best so far", "trial", f"valid {search.metric.name}", {"best": points})


def epochs_saved(search: Search, trial: FrozenTrial) -> int:
    """Epochs that a stopped trial was spared; 0 where the settings don't say how many there would have been."""
    planned: int = getattr(search.section(trial), "epochs", 0)
    return max(planned - int(trial.user_attrs["epochs"]), 0)


def as_yaml(settings: dict[str, Any]) -> str:
    """Settings as they stand in the YAML, on one line."""
    return f"train: {_flow(merged({}, settings))}"


def _flow(settings: dict[str, Any]) -> str:
    told = {name: _flow(v) if isinstance(v, dict) else "null" if v is None else v for name, v in settings.items()}
    return "{" + ", ".join(f"{name}: {value}" for name, value in told.items()) + "}"


def _shown(value: Any) -> Number:
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)
