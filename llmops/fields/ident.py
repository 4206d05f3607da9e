"""The kind id: tells one row from another and teaches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmops.core.report import Number
from llmops.fields.kind import Column, Drifted
from llmops.fields.words import ABSENT, Wordy


class Ident(Wordy):
    """See the module."""

    name = "id"
    absent = ABSENT

    def profile(self, values: Column) -> Mapping[str, Number]:
        missing = sum(value is None for value in values) / max(1, len(values))
        return {"missing": round(missing, 4), "distinct": len(set(values.tolist()) - {None})}

    def known(self, values: Column) -> dict[str, Any]:
        """Nothing: who was in the training set is nobody's business."""
        return {}

    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        """None: ids are always new."""
        return []

    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": ["string", "number", "null"], "x-control": "box", "examples": []}
