"""One of several processes that train together; torchrun starts it:  torchrun ... -m llmops.stages.train.worker ORDER

ORDER is the JSON file that together.py wrote. The first process saves the model and tells what happens, a JSON object a
line, on stdout. On several machines, start it by hand on each, on a folder that all of them see.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from llmops.core.artifact import write_json
from llmops.core.errors import LlmopsError
from llmops.core.heap import share_memory
from llmops.core.protocols import Base
from llmops.engine.update import train_from
from llmops.tasks import find

RESULT, ERROR = "result.json", "error.json"
"""What the first process leaves beside the order: what the learner told, or why there is no model."""
WATCHED_S = 0.5


class Telling:
    """A room whose words go to the process that ordered the training; other processes than the first say nothing."""

    def __init__(self, out: Path, work: Path, speaks: bool) -> None:
        self.out, self.work, self._speaks = out, work, speaks

    def emit(self, event: str, **fields: Any) -> None:
        self._tell(event=event, fields=fields)

    def say(self, line: str) -> None:
        self._tell(say=line)

    def progress(self, what: str, total: float | None = None) -> Any:
        self._tell(bar=what, total=total)
        return nullcontext(self)

    def update(self, done: float, note: str = "") -> None:
        self._tell(done=done, note=note)

    def _tell(self, **what: Any) -> None:
        if self._speaks:
            sys.stdout.write(json.dumps(what) + "\n")
            sys.stdout.flush()


def main(path: Path) -> int:
    """Train with the others; the exit code."""
    order = json.loads(path.read_bytes())
    end_with(os.getppid(), *order["ordered_by"])
    share_memory()
    from llmops.engine import parallel

    world = parallel.join()
    try:
        found = train(order, Telling(Path(order["out"]), Path(order["work"]), world.first))
        if world.first:
            write_json(path.with_name(RESULT), found)
        world.wait()
    except LlmopsError as error:
        told = {"kind": type(error).__name__, "mistakes": [asdict(mistake) for mistake in error.mistakes]}
        write_json(path.with_name(ERROR), told)
        return 1
    parallel.leave()
    return 0


def train(order: Mapping[str, Any], room: Telling) -> dict[str, Any]:
    """What the learner tells; the first process saves its model into out/model."""
    from llmops.engine.parallel import world

    task = find(order["task"]["name"])
    sections = task.section.model_validate(order["task"]), task.train_section.model_validate(order["train"])
    learner = task.learner(*sections, order["seed"])
    told = order["base"]
    base = told and Base(told["version"], told["sha256"], Path(told["model"]), Path(told["dataset"]))
    found = train_from(base, learner, Path(order["dataset"]), room.work, room)
    if world().first:
        learner.save(room.out / "model")
    return found


def end_with(*others: int) -> None:
    """End when one of these processes ends, however that came: nobody would wait for the result, and the same command
    given again must not find another training in its folder."""

    def watch() -> None:
        while all(map(lives, others)):
            time.sleep(WATCHED_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
