"""The last verb: the splits as the folder dataset/: rows as JSONL, arrays by the task's encoder, dataset.json."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from llmops.core.artifact import write_json
from llmops.core.protocols import Encoder, Row
from llmops.fields.config import CleanStep
from llmops.stages.prepare.rows import write_jsonl

FORMAT = 1


def encode(
    splits: dict[str, list[Row]], encoder: Encoder, cleaning: CleanStep, harvest_rows: int, labelled: bool, out: Path
) -> dict[str, Any]:
    """Write the data set into the new folder `out`; returns the encoder's figures ("max_tokens", "cut" ...).

    `labelled` rows are counted by class. `harvest_rows` is how many rows feedback's harvest had when this data set was
    made, whether or not they were kept: feedback counts what is new since.
    """
    out.mkdir(parents=True)
    for split, rows in splits.items():
        write_jsonl(out / f"{split}.jsonl", rows)
    figures = encoder.prepare(splits, out)
    about: dict[str, Any] = {
        "format": FORMAT,
        "counts": {split: len(rows) for split, rows in splits.items()},
        "max_tokens": figures.get("max_tokens"),
        "cut": figures.get("cut", 0),
        "cleaning": cleaning.plain(),
        "harvest_rows": harvest_rows,
    }
    if labelled:
        about["class_counts"] = {
            split: dict(sorted(Counter(row["label"] for row in rows).items())) for split, rows in splits.items()
        }
    write_json(out / "dataset.json", about)
    return figures
