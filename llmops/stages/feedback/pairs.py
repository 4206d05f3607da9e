"""Pairs: for a model that writes, each correction is also a preference: the right answer over the one that was served.

They lie in a file of their own, ready to be a source of a config that learns from preferences.
"""

from __future__ import annotations

from typing import Any

from llmops.core.protocols import Places, Task
from llmops.core.report import Passage
from llmops.stages.feedback.harvest import Learn

PREFERENCES = "preferences.jsonl"


def pairing(task: Task, section: Any) -> Learn | None:
    """What makes a pair of an opinion; None for tasks that have no `pairs`."""
    found = getattr(task, "pairs", None)
    return None if found is None else lambda said: found(section, said)


def shown(places: Places, count: int) -> Passage:
    """How to learn from the pairs: the lines that a config for the next round needs."""
    traffic, runs = (place.relative_to(places.root).as_posix() for place in (places.traffic, places.runs))
    lines = [
        f"{traffic}/{PREFERENCES} holds each correction beside the answer that was served.",
        "To learn from them, copy this config under another project's name, and change:",
        "",
        "task: {name: text-generation, objective: preferences}",
        f"prepare: {{sources: [{traffic}/{PREFERENCES}]}}",
        f"train: {{model: {runs}/latest/train/model}}",
    ]
    return Passage(f"Preference pairs for a next round: {count:,}", [("\n".join(lines), False)])
