"""Parity samples: inputs and outputs that travel in a bundle, by which it is known elsewhere whether it still computes
what it computed where it was made, and about how long that took.

No request of anybody's stands in them: of each column the values are shuffled over the rows, so that tokens and numbers
are real ones and no text, and no row, is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Arrays, Opened

FILE = "parity.safetensors"
ROWS, FEWEST = 16, 8
"""Rows of the samples; of fewer requests none are made, for shuffling would not hide them."""
WRONG = 0.05
"""Relative distance of the outputs from which a bundle computes something else. Other processors round otherwise, and a
form of few bits may be off by a few thousandths."""
SLOW = 2.0
"""So many times as long as where it was made is worth a word."""
TURNS = 5
IN, OUT, TOOK = "in.", "out.", "took_ms"


@dataclass(frozen=True)
class Checked:
    """How far the outputs are from those of where the bundle was made (relative, 0 to 1 and more), and how many times
    as long a batch takes."""

    apart: float
    slower: float

    @property
    def right(self) -> bool:
        return self.apart <= WRONG


def write_samples(folder: Path, opened: Opened, requests: Sequence[Any], seed: int) -> None:
    """Write the samples of a one-shot bundle into its folder, made of some requests; before its manifest is written."""
    from safetensors.numpy import save

    if len(requests) < FEWEST:
        return
    batch = shuffled(opened.codec.encode(list(requests)[: 4 * ROWS]), np.random.Generator(np.random.PCG64(seed)))
    took_ms, outputs = timed(opened.runtime, batch)
    told = {f"{IN}{name}": np.ascontiguousarray(value) for name, value in batch.items()}
    told |= {f"{OUT}{place}": np.ascontiguousarray(value) for place, value in enumerate(outputs)}
    write_whole(folder / FILE, save({**told, TOOK: np.array([took_ms], np.float32)}))


def check(folder: Path, runtime: Any, turns: int = 1) -> Checked | None:
    """Compute the samples of a bundle here; None where it has none. Of so few turns only some tell the time. Raises
    DataError when they cannot be read."""
    from safetensors.numpy import load_file

    if not (folder / FILE).exists():
        return None
    try:
        told = load_file(folder / FILE)
        batch = {name.removeprefix(IN): value for name, value in told.items() if name.startswith(IN)}
        wanted = [told[f"{OUT}{place}"] for place in range(sum(name.startswith(OUT) for name in told))]
        before_ms = float(told[TOOK][0])
    except Exception as error:  # safetensors raises its own, numpy others
        what = f"the parity samples cannot be read: {error}"
        raise DataError(what, str(folder / FILE), "make the bundle again") from error
    took_ms, outputs = timed(runtime, batch, turns)
    return Checked(max(apart(*pair) for pair in zip(outputs, wanted, strict=True)), took_ms / max(before_ms, 1e-6))


def apart(ours: Any, theirs: Any) -> float:
    """||ours - theirs|| / ||theirs||; infinite for other shapes, and where one is a number and the other is none:
    missing values of a table stay missing."""
    if ours.shape != theirs.shape or not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
        return float("inf")
    a, b = (one[np.isfinite(one)].astype(np.float64) for one in (ours, theirs))
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-9))


def shuffled(batch: Arrays, chance: np.random.Generator) -> dict[str, Any]:
    """At most `ROWS` rows, without padding, each column's values in another order."""
    arrays = {name: value for name, value in batch.items() if name != "mask"}
    rows = np.arange(len(next(iter(arrays.values()))))
    length = None
    if "mask" in batch:
        lengths = batch["mask"].sum(1)
        length = max(int(np.median(lengths)), 1)  # at least half of the texts are so long
        rows = rows[lengths >= length]
    rows = rows[:ROWS]
    made = {}
    for name, value in arrays.items():
        part = value[rows] if len(value) == len(next(iter(arrays.values()))) else value
        part = part[:, :length] if length and part.ndim == 2 else part
        made[name] = chance.permuted(part, axis=0)
    if "mask" in batch:
        made["mask"] = np.ones((len(rows), length or 1), batch["mask"].dtype)
    return made


def timed(runtime: Any, batch: Arrays, turns: int = TURNS) -> tuple[float, list[Any]]:
    """The least milliseconds for the batch over some turns, and its outputs."""
    least = float("inf")
    outputs: list[Any] = []
    for _ in range(turns):
        began = time.perf_counter()
        outputs = runtime.run(batch)
        least = min(least, (time.perf_counter() - began) * 1000)
    return least, outputs
