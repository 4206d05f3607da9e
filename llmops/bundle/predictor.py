"""Predictor: a bundle that answers. Joins its manifest, its task's codec and its runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops import tasks
from llmops.bundle import format as bundle_format
from llmops.bundle.format import Manifest
from llmops.bundle.runtimes import open_runtime
from llmops.bundle.stepper import SLOTS
from llmops.core.errors import DataError


@dataclass(frozen=True)
class Predictor:
    """The three parts of an opened bundle (`protocols.Opened`).

    A one-shot bundle has a Codec and a Runtime: `answer` may be called from any one thread at a time, `answer_beside`
    from as many as the runtime has `lanes`; one that writes has a WritingCodec and a Stepper, which a scheduler drives.
    """

    manifest: Manifest
    codec: Any
    runtime: Any

    @property
    def settings(self) -> Mapping[str, Any]:
        """The codec's and the runtime's settings."""
        return self.manifest.settings

    @classmethod
    def open(cls, folder: Path, threads: int = 0, slots: int = SLOTS) -> Predictor:
        """Check the bundle in `folder` and load it. `threads` compute (0: one for each core); one that writes gets
        `slots` places for conversations.

        Raises DataError for a damaged bundle, and for one that newer code made.
        """
        manifest = bundle_format.read(folder)
        task = tasks.find(manifest.task)
        if manifest.task_version > task.version:
            raise DataError(
                f"the bundle is of version {manifest.task_version} of {task.name}; this llmops has {task.version}",
                str(folder), "upgrade llmops and try again",
            )  # fmt: skip
        runtime = open_runtime(folder, threads, manifest.runtime, manifest.settings, slots)
        return cls(manifest, task.codec(folder), runtime)

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        """Responses in the order of `requests`, computed as one batch. One-shot bundles only, as are the next two."""
        return list(self.codec.decode(self.runtime.run(self.codec.encode(requests)), requests))

    def answer_beside(self, requests: Sequence[Any]) -> list[Any]:
        """The same, while other threads do so too."""
        return list(self.codec.decode(self.runtime.run_beside(self.codec.encode(requests)), requests))

    def answer_all(self, requests: Sequence[Any], batch: int = 32) -> list[Any]:
        """Responses in the order of `requests`, computed in batches of like sizes so that little is padding."""
        order = sorted(range(len(requests)), key=lambda index: self.codec.size(requests[index]))
        answers: list[Any] = [None] * len(requests)
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            for place, answer in zip(places, self.answer([requests[place] for place in places]), strict=True):
                answers[place] = answer
        return answers
