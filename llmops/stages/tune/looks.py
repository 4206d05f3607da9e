"""First looks: many settings are tried on few rows, and only the best is trained in full (successive halving in two
steps; Jamieson and Talwalkar 2016)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.core.artifact import write_json
from llmops.core.protocols import Job
from llmops.stages.tune.config import TuneSection
from llmops.stages.tune.study import Search

EPOCHS = 2
"""Of a look."""
FEWEST = 3
"""Trials below which a search is no search."""


@dataclass(frozen=True)
class Plan:
    """What the budget allows: `full` trainings, `looks` at a part of the rows (none: the task has no such parts)."""

    full: int
    looks: int

    @property
    def way(self) -> str:
        """How to search: "full" trainings where there is time for some, else "looks", else "nothing"."""
        if self.full >= FEWEST:
            return "full"
        return "looks" if self.looks >= FEWEST else "nothing"


def planned(seconds: float | None, trials: int, look_s: float, whole_s: float) -> Plan:
    """The plan for `seconds`, where a look took `look_s` and a full training takes `whole_s`; never more than
    `trials`."""
    if seconds is None:
        return Plan(trials, trials)
    return Plan(min(trials, int(seconds / whole_s)), min(trials, int(seconds / look_s)))


def trained_s(model: Path, look_s: float, share: float) -> float:
    """Seconds that the training of the model took, as train's report beside it tells; else about."""
    try:
        numbers = json.loads((model.parent / "report.json").read_bytes())["numbers"]
        return float(numbers["took_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return look_s / share


class Looks(Search):
    """A search on a part of the rows, in a study of its own. Trial 0 has the trained model's settings; no model is
    kept."""

    def __init__(self, job: Job, dataset: Path) -> None:
        super().__init__(job, "looks")
        self.dataset = dataset
        self.told = {}
        epochs = getattr(self.train, "epochs", None)
        if epochs is not None and "epochs" not in self.tune.space:
            self.train = self.train.model_copy(update={"epochs": min(EPOCHS, epochs)})

    def first(self) -> float:
        """Look at the trained model's own settings; the seconds that it took, kept for a search that carries on."""
        path = self.folder / "first.json"
        if not path.exists():
            self.begin()
            write_json(path, {"seconds": max(self.clock.tick(), 1e-3)})
        self._look()
        return float(json.loads(path.read_bytes())["seconds"])

    def keep(self, learner: Any, found: dict[str, Any], number: int) -> None:
        """Nothing: a model of few rows is no use to anybody."""


def search(job: Job) -> tuple[Search, Looks | None, str]:
    """Search as the budget allows: the search of full trainings, the looks before it, and in words what was planned."""
    tune, full = job.section("tune", TuneSection), Search(job)
    folder, most = full.folder / "rows", full.size()
    wanted = tune.seconds is not None and tune.look is not None and most >= FEWEST
    if not wanted or not job.task.thinned(job.inputs["dataset"], float(tune.look or 0), folder):
        full.run()
        return full, None, ""
    assert tune.look is not None
    looks = Looks(job, folder)
    look_s = looks.first()
    whole_s = trained_s(job.inputs["model"], look_s, tune.look)
    plan = planned(tune.seconds, most, look_s, whole_s)
    said = told(plan, tune, look_s, whole_s)
    job.room.say(said)
    if plan.way == "full":
        full.run()
        return full, None, said
    full.tune = full.tune.model_copy(update={"trials": 1, "seconds": None})
    if plan.way == "looks":
        looks.run()
        if looks.winner().number:
            # the looks' budget is spent: this training comes on top, as was said
            full.tune = full.tune.model_copy(update={"trials": 2})
            full.propose(looks.winner().params)
    full.run()
    return full, looks, said


def told(plan: Plan, tune: TuneSection, look_s: float, whole: float) -> str:
    """The plan in words."""
    assert tune.seconds is not None and tune.look is not None
    if plan.way == "full":
        return f"{tune.seconds:g} s allow about {plan.full} trainings of {whole:.0f} s"
    part = f"looks of {look_s:.1f} s at {tune.look:.0%} of the rows"
    if plan.way == "nothing":
        return f"no search: {tune.seconds:g} s allow {plan.looks} {part}; give `tune.seconds` {math.ceil(9 * look_s)}"
    return f"{tune.seconds:g} s allow about {plan.looks} {part}; the best is then trained in full, about {whole:.0f} s"
