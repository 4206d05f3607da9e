"""The tasks: the table of names, and `find`. A new task is one folder and one row here."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from typing import cast

from llmops.core.errors import ConfigError, Mistake
from llmops.core.protocols import Task

TASKS = {
    "answering": "llmops.tasks.answering:Answering",
    "tabular": "llmops.tasks.tabular:Tabular",
    "text-classification": "llmops.tasks.text_classification:TextClassification",
    "text-generation": "llmops.tasks.text_generation:TextGeneration",
}
"""Name in the config -> "module:Class"."""


@cache
def find(name: str) -> Task:
    """The task called `name`. Loads its module, but no torch. Raises ConfigError for an unknown name."""
    place = TASKS.get(name)
    if place is None:
        near = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"take one of: {', '.join(TASKS)}."
        raise ConfigError("the config", [Mistake(f"There is no task called {name!r}.", "task.name", "", hint)])
    module, kind = place.split(":")
    return cast(Task, getattr(import_module(module), kind)())
