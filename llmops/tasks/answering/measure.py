"""Measures a candidate on this machine, as the server would: the real codec, runtime and index, validation rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Measured, Opened
from llmops.tasks.answering.assess import agreement, scores_of
from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.entries import FILE, read_entries, read_rows
from llmops.tasks.answering.index import write_index
from llmops.tasks.answering.ranking import figures, ranks
from llmops.tasks.answering.truth import right_entries, truth
from llmops.tasks.timing import as_measured, time_single

Array = np.ndarray[Any, Any]
BATCH = 16


def complete(dataset: Path, opened: Opened, folder: Path) -> None:
    """Write the index into a candidate's folder: the entries with the vectors of its own runtime."""
    entries = read_entries(dataset / FILE)
    write_index(folder, entries, vectors_of(opened, [one.text for one in entries]))


def vectors_of(opened: Opened, texts: Sequence[str]) -> Array:
    """Vectors of cleaned texts in their order, float32 [texts, width], in batches of like length."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    parts = [
        opened.runtime.run(opened.codec.arrays([texts[place] for place in order[start : start + BATCH]]))[0]
        for start in range(0, len(order), BATCH)
    ]
    stacked = np.concatenate(parts).astype(np.float32)
    ordered = np.empty_like(stacked)
    ordered[order] = stacked
    return ordered


def score(section: AnsweringSection, dataset: Path, split: str, opened: Opened) -> float:
    """The task's metric of an opened bundle on a split, by its own index: an answer that the index does not hold, or
    holds in other words, cannot be found."""
    rows, index = read_rows(dataset / f"{split}.jsonl"), opened.codec.index
    questions = [row["text"] for row in rows]
    scores = index.scores(vectors_of(opened, questions), questions, opened.codec.settings.lexical)
    return figures(ranks(scores, right_entries(rows, index.entries)))[section.metric]


def measure(section: AnsweringSection, dataset: Path, opened: Opened, trained: Array) -> Measured:
    """A candidate's latency, rate, figures, and its agreement with `trained`, the trained model's cosines.

    Figures: latency_p50_ms and latency_p95_ms of one request, rows_per_s in batches of 16, valid_<figure>.
    """
    found = truth(dataset, "valid")
    requests = [opened.codec.Request(question=question, phrase=False) for question in found.questions]
    single = time_single(opened, requests)
    began = time.perf_counter()
    similarity = opened.codec.index.similarity(vectors_of(opened, found.questions))
    rate = len(requests) / (time.perf_counter() - began)
    scores = scores_of(section, found, similarity)
    told = figures(ranks(scores, found.right))
    same = agreement(found, scores, scores_of(section, found, trained))
    return as_measured(section.metric, told, same, single, rate, similarity)
