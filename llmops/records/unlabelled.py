"""Texts without labels (`prepare.unlabelled`): read, cleaned, each once, and none that stands in the data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.protocols import Job, Places, Rows, Task
from llmops.core.report import Number, Table
from llmops.fields.cleaning import clean
from llmops.fields.config import UNCLEANED
from llmops.fields.hashing import row_id
from llmops.fields.kind import Keys
from llmops.fields.redaction import KINDS, redact
from llmops.fields.rows import Listed, columns_of
from llmops.records.config import SourceSection
from llmops.records.examples import load_texts
from llmops.records.readers import source_path
from llmops.records.twins import input_keys


@dataclass(frozen=True)
class Unlabelled:
    """`rows` ("id", "text", "origin") are kept of the `read`; the others are bad or empty (`bad`, by reason), stand
    among these texts already (`repeated`), or in the data set (`known`)."""

    rows: Rows = field(default_factory=lambda: Listed([]))
    read: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0
    known: int = 0

    @property
    def numbers(self) -> dict[str, Number]:
        """For a report."""
        return {"unlabelled_read": self.read, "unlabelled": len(self.rows)}

    @property
    def table(self) -> Table:
        """Where the texts went."""
        rows: list[list[Number]] = [
            ["kept", len(self.rows)],
            ["stand in the data set (training, validation or test)", self.known],
            ["said before", self.repeated],
        ]
        rows += [[reason, count] for reason, count in self.bad.items()]
        return Table(f"Texts without labels ({self.read:,} read)", ["texts", "count"], rows)


def traffic_file(places: Places) -> Path:
    """Where `feedback` leaves the texts that nobody corrected, when `prepare.unlabelled` names this file."""
    return places.traffic / "unlabelled.jsonl"


def unlabelled_sources(prepare: Any) -> list[str | SourceSection]:
    """What `prepare.unlabelled` names."""
    named = getattr(prepare, "unlabelled", None)
    if named is None:
        return []
    return list(named) if isinstance(named, list) else [named]


def unlabelled_files(prepare: Any, places: Places) -> list[Path]:
    """The files among them."""
    found = (source_path(source, places.root) for source in unlabelled_sources(prepare))
    return [path for path in found if path is not None]


def takes_traffic(prepare: Any, places: Places) -> bool:
    """Whether the config asks for the texts of the traffic."""
    return traffic_file(places).resolve() in unlabelled_files(prepare, places)


def unlabelled_texts(job: Job, prepare: Any, splits: Mapping[str, Rows]) -> Unlabelled | None:
    """The texts that `prepare.unlabelled` names, without those of the data set whose splits these are; None where it
    names none. The file of the traffic may not be there yet. Raises DataError for what cannot be read."""
    named = unlabelled_sources(prepare)
    if not named:
        return None
    traffic, root = traffic_file(job.places), job.places.root
    at_hand = [s for s in named if source_path(s, root) != traffic.resolve() or traffic.exists()]
    if not at_hand:
        return Unlabelled()
    task, section = job.task, job.sections["task"]
    loaded = load_texts(at_hand, root, task, section, prepare.max_bad_rows)
    step = getattr(prepare, "cleaning", UNCLEANED)
    texts = [clean(str(text), step) for text in loaded.rows.values("text")]
    said = [(text, at) for text, at in zip(texts, loaded.rows.values("origin"), strict=True) if text.strip()]
    rows = Listed([{"id": row_id(text), "text": text, "origin": origin} for text, origin in said])
    keys = input_keys(task, section, rows)
    known = np.isin(keys, known_keys(task, section, splits))
    _, first = np.unique(keys, return_index=True)
    fresh = np.setdiff1d(first, np.flatnonzero(known))  # sorted: the order of the files
    bad = loaded.bad_by_reason()
    if empty := len(texts) - len(said):
        bad["empty_after_cleaning"] = empty
    return Unlabelled(
        rows.take(fresh), loaded.read, bad, repeated=int((~known).sum()) - len(fresh), known=int(known.sum())
    )


def known_keys(task: Task, section: Any, splits: Mapping[str, Rows]) -> Keys:
    """What the texts of a data set are equal by, as they are and as the traffic log, which redacts, keeps them."""
    kinds = task.inputs(section)
    found = []
    for rows in splits.values():
        if not len(rows):
            continue
        found.append(input_keys(task, section, rows))
        columns = columns_of(rows, kinds)
        logged = [
            {name: kind.redacted(columns[name][at], lambda text: redact(text, KINDS)) for name, kind in kinds.items()}
            for at in range(len(rows))
        ]
        found.append(input_keys(task, section, Listed(logged)))
    return np.concatenate(found) if found else np.zeros(0, np.uint64)
