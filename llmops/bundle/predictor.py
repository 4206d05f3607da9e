"""Predictor: a bundle that answers. Joins its manifest, its task's codec and its runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops import tasks
from llmops.bundle import format as bundle_format
from llmops.bundle.format import Manifest
from llmops.bundle.runtimes import open_runtime
from llmops.core.errors import DataError
from llmops.core.protocols import Codec, Runtime


@dataclass(frozen=True)
class Predictor:
    """The three parts of an opened bundle; `answer` may be called from any one thread at a time."""

    manifest: Manifest
    codec: Codec
    runtime: Runtime

    @classmethod
    def open(cls, folder: Path, threads: int = 0) -> Predictor:
        """Check the bundle in `folder` and load it. `threads` compute (0: one for each core).

        Raises DataError for a damaged bundle, and for one that newer code made.
        """
        manifest = bundle_format.read(folder)
        task = tasks.find(manifest.task)
        if manifest.task_version > task.version:
            raise DataError(
                f"the bundle is of version {manifest.task_version} of {task.name}; this llmops has {task.version}",
                str(folder), "upgrade llmops and try again",
            )  # fmt: skip
        return cls(manifest, task.codec(folder), open_runtime(folder, threads))

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        """Responses in the order of `requests`, computed as one batch."""
        return self.codec.decode(self.runtime.run(self.codec.encode(requests)), requests)

    def answer_all(self, requests: Sequence[Any], batch: int = 32) -> list[Any]:
        """Responses in the order of `requests`, computed in batches of like sizes so that little is padding."""
        order = sorted(range(len(requests)), key=lambda index: self.codec.size(requests[index]))
        answers: list[Any] = [None] * len(requests)
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            for place, answer in zip(places, self.answer([requests[place] for place in places]), strict=True):
                answers[place] = answer
        return answers
