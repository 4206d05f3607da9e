"""The labels whose share of answers moved the most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llmops.fields.movedwords import Moved, moved_words

__all__ = ["Moved", "moved_labels", "moved_words"]
LABELS = 10


def moved_labels(old: Sequence[str], new: Sequence[str]) -> list[Moved]:
    """The labels whose share of rows moved the most."""
    before, after = Counter(old), Counter(new)
    moved = [Moved(name, before[name] / len(old), after[name] / len(new)) for name in before | after]
    moved.sort(key=lambda label: (-abs(label.new - label.old), label.name))
    return [label for label in moved[:LABELS] if label.new != label.old]
