"""What prepare has to say about classes: rows by class, rows with several labels, and what deserves an eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from llmops.core.protocols import Rows
from llmops.core.report import Number, Table
from llmops.fields.kind import Kind
from llmops.stages.prepare.gather import Gathered
from llmops.stages.prepare.phrases import SHOWN, brief, few, subject

CLASSES_SHOWN = 40
FEW = 5  # training rows of a class below which it is called tiny
IMBALANCE = 10  # the largest class over the smallest from which a warning is due


class Classes:
    """The labels of the splits; `names` are the training rows' labels, the most frequent first."""

    def __init__(self, splits: Mapping[str, Rows], outside: str | None) -> None:
        """`outside` is the label that belongs to no class."""
        self.counts = {split: Counter(map(str, rows.values("label"))) for split, rows in splits.items()}
        train = self.counts["train"]
        self.names = sorted(set(train), key=lambda label: (-train[label], label))
        self.outside = outside

    def table(self) -> Table:
        """Rows by class and split."""
        labels = [*self.names[:CLASSES_SHOWN], *([self.outside] if self.outside else [])]
        cut = f" (the {CLASSES_SHOWN} largest of {len(self.names)})" if len(self.names) > CLASSES_SHOWN else ""
        rows: list[list[Number]] = [[label, *(self.counts[split][label] for split in self.counts)] for label in labels]
        return Table("Rows by class" + cut, ["class", *self.counts], rows)

    def warnings(self) -> list[str]:
        """Tiny classes, classes without a row to validate or test on, imbalance, labels that look alike."""
        counts, classes = self.counts, self.names
        tiny = [label for label in classes if counts["train"][label] < FEW]
        most, least = counts["train"][classes[0]], counts["train"][classes[-1]]
        look_alike = _look_alike(classes)
        missing = {split: self._without(split) for split in ("valid", "test")}
        said = [
            (tiny, f"fewer than {FEW} training rows: {few(tiny)}"),
            *((labels, f"no {split} row: {few(labels)}") for split, labels in missing.items()),
            (
                most >= IMBALANCE * least,
                f"imbalance: `{classes[0]}` has {most:,} training rows, `{classes[-1]}` {least:,}; "
                "consider `train.class_weights: balanced` and `task.metric: f1_macro`",
            ),
            (look_alike, f"labels that differ only in case or spaces: {few(look_alike)}"),
        ]
        return [line for due, line in said if due]

    def _without(self, split: str) -> list[str]:
        return [label for label in self.names if self.counts[split] and not self.counts[split][label]]


def conflicts(found: Gathered, inputs: Mapping[str, Kind]) -> list[Table]:
    """Rows whose inputs have several labels, and which one stayed."""
    if not found.conflicts:
        return []
    rows: list[list[Number]] = [
        [brief(c.row, inputs), ", ".join(f"{label} {n}" for label, n in c.labels.items()), c.kept or "none (a tie)"]
        for c in found.conflicts[:SHOWN]
    ]
    return [
        Table(
            f"{subject(inputs)} with several labels ({len(found.conflicts):,} in all)", ["row", "labels", "kept"], rows
        )
    ]


def _look_alike(classes: list[str]) -> list[str]:
    folded = Counter("".join(label.casefold().split()) for label in classes)
    return sorted(label for label in classes if folded["".join(label.casefold().split())] > 1)
