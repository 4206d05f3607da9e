"""Starts processes that train together (torchrun), relays what the first one tells, and ends them with this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from llmops.core import errors
from llmops.core.artifact import write_json
from llmops.core.errors import LlmopsError, MachineError, Mistake
from llmops.core.protocols import Job, Room
from llmops.core.section import Section
from llmops.stages.train.worker import ERROR, RESULT

LAST_WORDS = 2000
"""Characters of the processes' stderr that an error shows."""
GRACE_S = 20


def wanted(train: Section) -> int:
    """How many processes the config asks for: 0 when this one shall train by itself, as models do that are not one
    training of the engine (a table's)."""
    settings: Any = train
    count = getattr(settings, "processes", 1)
    if count == "auto":
        import torch

        count = torch.cuda.device_count() or 1
    return int(count) if count > 1 or getattr(settings, "shard", False) else 0


def train_together(job: Job, processes: int) -> dict[str, Any]:
    """What `Learner.train` returns, by `processes` that train together; out/model is saved. Raises what they raised."""
    folder = job.room.work / "together"
    for name in (RESULT, ERROR):
        (folder / name).unlink(missing_ok=True)
    order = {
        "task": job.sections["task"].plain(),
        "train": job.sections["train"].plain(),
        "seed": job.seed,
        "ordered_by": [os.getpid()],
        "dataset": str(job.inputs["dataset"].absolute()),
        "base": job.base and {**asdict(job.base), "model": str(job.base.model), "dataset": str(job.base.dataset)},
        "out": str(job.room.out.absolute()),
        "work": str(job.room.work.absolute()),
    }
    write_json(folder / "order.json", order)
    job.room.say(f"{processes} processes train together")
    with (folder / "stderr.txt").open("w+b") as words, started(folder / "order.json", processes, words) as going:
        assert going.stdout is not None
        relay(going.stdout, job.room)
        code = going.wait()
        if code:
            raise failure(folder, words)
    found: dict[str, Any] = json.loads((folder / RESULT).read_bytes())
    return found


@contextmanager
def started(order: Path, processes: int, words: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """torchrun with the workers; whatever happens here, they have ended afterwards."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "llmops.stages.train.worker", str(order)]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {"OMP_NUM_THREADS": threads} | os.environ
    going = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment)
    try:
        yield going
    finally:
        going.terminate()
        try:
            going.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            going.kill()
            going.communicate()


def relay(lines: IO[str], room: Room) -> None:
    """Tell in this room what the first process tells in its own, until it ends."""
    bar: Any = None
    try:
        for line in lines:
            with suppress(ValueError):  # a library's own print
                told = json.loads(line)
                if "bar" in told:
                    bar = room.progress(told["bar"], told["total"])
                    bar.__enter__()
                elif "done" in told and bar is not None:
                    bar.update(told["done"], told["note"])
                elif "say" in told:
                    room.say(told["say"])
                elif "event" in told:
                    room.emit(told["event"], **told["fields"])
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)


def failure(folder: Path, words: IO[bytes]) -> LlmopsError:
    """Why there is no model: what the processes said, as the error that it was."""
    if (folder / ERROR).exists():
        told = json.loads((folder / ERROR).read_bytes())
        kind = getattr(errors, told["kind"], errors.DataError)
        mistakes = [Mistake(**mistake) for mistake in told["mistakes"]]
        error: LlmopsError = kind(mistakes[0].what)
        error.mistakes = tuple(mistakes)
        return error
    words.seek(0)
    text = words.read().decode(errors="replace")[-LAST_WORDS:]
    return MachineError("the processes that train together ended without a model", str(folder / "stderr.txt"), "", text)
