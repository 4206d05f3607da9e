"""Figures of several workers as one: each leaves its own in a file now and then, and whoever is asked adds them up.

What a worker that died had counted counts on, so that no sum ever falls; its gauges do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from llmops.core.artifact import write_whole

EVERY_S = 0.5
"""Seconds after which a worker leaves its figures again."""
LARGEST = ("llmops_model_version",)
"""Gauges that are no sum."""


class Summed:
    """The figures of this worker, the one of that `number`, and its neighbours, which have a `folder` in common."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.own = folder, folder / f"worker-{number}-{os.getpid()}.txt"

    def leave(self, text: bytes) -> None:
        """Leave the worker's own figures for the others."""
        write_whole(self.own, text)

    def all(self, own: bytes) -> bytes:
        """All workers' figures added up, this one's as they are now."""
        files = [path for path in sorted(self.folder.glob("worker-*.txt")) if path != self.own]
        living = [psutil.pid_exists(int(path.stem.rsplit("-", 1)[1])) for path in files]
        texts = [own, *(path.read_bytes() for path in files)]
        registry = CollectorRegistry()
        registry.register(_Told([text.decode() for text in texts], [True, *living]))
        return generate_latest(registry)


class _Told:
    """A collector of what some texts say together."""

    def __init__(self, texts: Sequence[str], living: Sequence[bool]) -> None:
        self.texts, self.living = texts, living

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for text, lives in zip(self.texts, self.living, strict=True):
            for family in text_string_to_metric_families(text):
                if family.type == "gauge" and not lives:
                    continue
                families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                held = values.setdefault(family.name, {})
                for sample in family.samples:
                    key = sample.name, tuple(sample.labels.items())
                    before = held.get(key, 0.0)
                    held[key] = max(before, sample.value) if family.name in LARGEST else before + sample.value
        for name, metric in families.items():
            for (called, labels), value in values[name].items():
                metric.add_sample(called, dict(labels), value)
        return families.values()
