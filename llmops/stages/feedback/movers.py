"""The labels whose share of answers moved the most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llmops.fields.labelsets import each
from llmops.fields.movedwords import Moved, moved_words

__all__ = ["Moved", "moved_labels", "moved_words"]
LABELS = 10


def moved_labels(old: Sequence[Any], new: Sequence[Any]) -> list[Moved]:
    """The labels whose share of rows moved the most; a row has one, or a tuple of them."""
    before, after = (Counter(name for label in side for name in each(label)) for side in (old, new))
    moved = [Moved(name, before[name] / len(old), after[name] / len(new)) for name in before | after]
    moved.sort(key=lambda label: (-abs(label.new - label.old), label.name))
    return [label for label in moved[:LABELS] if label.new != label.old]
