"""Rows of texts as prepare carries them, for tests of single verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmops.fields.rows import Listed
from llmops.stages.prepare.batch import Batch, batch_of
from llmops.tasks import find

Row = dict[str, Any]


def batched(rows: Sequence[Row]) -> Batch:
    """Rows with text and label, and with group and time where they have them, as a batch of text classification."""
    task = find("text-classification")
    has = {name: any(name in row for row in rows) for name in ("group", "time")}
    return batch_of(task, task.section(), Listed(list(rows)), group=has["group"], time=has["time"])


def listed(batch: Batch) -> list[Row]:
    """The rows of a batch."""
    return list(batch.rows)
