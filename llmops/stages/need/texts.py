"""What need has to say where words are learnt: rows and characters, and what the held-out rows can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.protocols import Metric
from llmops.core.report import Number, Table
from llmops.stages.need import adequacy
from llmops.stages.need.gatecheck import PROPORTIONS
from llmops.stages.need.sample import SPLITS, Sample
from llmops.stages.need.told import Told


def look(accept: Mapping[str, Any], sample: Sample, baseline: Mapping[str, Any], metric: Metric) -> Told:
    """All of it."""
    return Told(numbers(sample), [size_table(sample)], warnings(accept, sample, baseline, metric))


def numbers(sample: Sample) -> dict[str, Number]:
    """Rows and characters of the splits."""
    return {
        **{f"rows_{split}": len(sample.splits[split]) for split in SPLITS},
        **{f"characters_{split}": sample.characters(split) for split in SPLITS},
    }


def size_table(sample: Sample) -> Table:
    """Rows and characters of each split."""
    rows: list[list[Number]] = []
    for split in SPLITS:
        count, characters = len(sample.splits[split]), sample.characters(split)
        rows.append([split, f"{count:,}", f"{characters:,}", round(characters / count, 1) if count else None])
    return Table("Rows and characters", ["split", "rows", "characters", "characters a row"], rows)


def warnings(accept: Mapping[str, Any], sample: Sample, baseline: Mapping[str, Any], metric: Metric) -> list[str]:
    """What deserves a person's eye: no test rows, and gates on shares of rows that so few rows know only roughly."""
    held = "test" if sample.splits["test"] else "valid"
    rows = len(sample.splits[held])
    said: list[str | None] = []
    if held == "valid":
        said.append("there is no test row; the gates will judge figures of validation rows, by which models are chosen")
    for gate in sorted(PROPORTIONS - {"parity"}):
        bound = (accept.get(gate) or {}).get("at_least")
        if bound is not None:
            said.append(adequacy.gate_warning(gate, bound, rows))
    if accept.get("champion") and metric.name in PROPORTIONS:
        asked = (accept.get(metric.name) or {}).get("at_least")
        expected = float(asked if asked is not None else baseline["valid"] or 0.5)
        said.append(adequacy.margin_warning(accept["champion"]["no_worse_by"], expected, rows))
    return [line for line in said if line]
