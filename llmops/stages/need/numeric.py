"""What need has to say where a number is predicted: how many rows there are, and how the target spreads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmops.core.protocols import Metric
from llmops.core.report import Number, Table
from llmops.stages.need.sample import SPLITS, Sample
from llmops.stages.need.told import Told

FEW = 200
"""Training rows below which little can be learnt from a table."""
FEW_TEST = 100
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def look(accept: Mapping[str, Any], sample: Sample, baseline: Mapping[str, Any], metric: Metric) -> Told:
    """All of it."""
    values = {split: np.array(sample.splits[split].values("label"), float) for split in SPLITS}
    low, high = float(values["train"].min()), float(values["train"].max())
    numbers: dict[str, Number] = {
        **{f"rows_{split}": len(values[split]) for split in SPLITS}, "target_low": low, "target_high": high,
    }  # fmt: skip
    rows: list[list[Number]] = [
        [split, len(found), *(float(np.quantile(found, q)) for q in QUANTILES)]
        for split, found in values.items()
        if len(found)
    ]
    columns = ["split", "rows", "smallest", "5 %", "median", "95 %", "largest"]
    return Told(numbers, [Table("The target", columns, rows)], warnings(values))


def warnings(values: Mapping[str, Any]) -> list[str]:
    """What deserves a person's eye."""
    said = []
    if len(values["train"]) < FEW:
        said.append(f"only {len(values['train'])} training rows; {FEW} or more are wanted to learn from a table")
    if len(values["test"]) < FEW_TEST:
        said.append(f"{len(values['test'])} test rows tell an error only roughly; {FEW_TEST} or more are wanted")
    return said
