"""The last verb: the splits as the folder dataset/: the rows, arrays by the task's encoder, dataset.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmops.core.artifact import write_json
from llmops.core.protocols import Encoder, Rows
from llmops.fields.config import CleanStep
from llmops.fields.labelsets import each

FORMAT = 1


def encode(
    splits: Mapping[str, Rows], encoder: Encoder, cleaning: CleanStep, harvest_rows: int, classes: bool, out: Path
) -> dict[str, Any]:
    """Write the data set into the new folder `out`; returns the encoder's figures ("max_tokens", "cut" ...).

    Rows are counted by class where there are `classes`, those without any as "". `harvest_rows` is how many rows
    feedback's harvest had when this data set was made, whether or not they were kept: feedback counts what is new.
    """
    out.mkdir(parents=True)
    for split, rows in splits.items():
        rows.write(out, split)
    figures = encoder.prepare(splits, out)
    about: dict[str, Any] = {
        "format": FORMAT,
        "counts": {split: len(rows) for split, rows in splits.items()},
        "max_tokens": figures.get("max_tokens"),
        "cut": figures.get("cut", 0),
        "cleaning": cleaning.plain(),
        "harvest_rows": harvest_rows,
    }
    if classes:
        about["class_counts"] = {split: dict(sorted(Counter(_names(rows)).items())) for split, rows in splits.items()}
    write_json(out / "dataset.json", about)
    return figures


def _names(rows: Rows) -> Iterator[str]:
    """The labels of the rows, one after the other."""
    return (name for label in rows.values("label") for name in each(label) or ("",))
