"""The metric of an opened bundle that gives several labels: the champion on the candidate's rows."""

from __future__ import annotations

from pathlib import Path

from llmops.core.protocols import Opened
from llmops.tasks.asking import BATCH
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.several.codec import MOST_OTHERS, LabelsCodec, LabelsRequest, LabelsResponse
from llmops.tasks.text_classification.several.rows import given_to, rows_of, worth
from llmops.tasks.timing import answer, by_size


def score(section: TextClassificationSection, dataset: Path, split: str, opened: Opened) -> float | None:
    """Computed by its own codec and runtime; None for a bundle that gives one label."""
    if not isinstance(opened.codec, LabelsCodec):
        return None
    rows = rows_of(dataset, split)
    requests = [LabelsRequest(text=row["text"], others=MOST_OTHERS) for row in rows.examples]
    answers: dict[int, LabelsResponse] = {}
    for places in by_size(opened, requests, BATCH):
        answers |= zip(places, answer(opened, [requests[place] for place in places]), strict=True)
    said = [answers[place] for place in range(len(requests))]
    return worth(rows, given_to(rows, [(one.labels, one.others) for one in said]))[section.metric]
