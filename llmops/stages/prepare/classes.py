"""What prepare has to say about classes: rows by class, labels by row, contradictions, and what deserves an eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from llmops.core.protocols import Rows
from llmops.core.report import Number, Table
from llmops.fields.kind import Kind
from llmops.fields.labelsets import each
from llmops.stages.prepare.gather import Gathered
from llmops.stages.prepare.phrases import SHOWN, brief, few, subject

CLASSES_SHOWN = 40
SETS_SHOWN = 8  # rows with this many labels or more count together
FEW = 5  # training rows of a class below which it is called tiny
UNLABELLED_SHARE = 0.3  # of the training rows, from which rows without a label are worth a word
IMBALANCE = 10  # the largest class over the smallest from which a warning is due


class Classes:
    """The labels of the splits; `names` are the training rows' labels, the most frequent first."""

    def __init__(self, splits: Mapping[str, Rows], outside: str | None, several: bool = False) -> None:
        """`outside` is the label that belongs to no class; `several`: rows may have any number of labels."""
        told = {split: [each(label) for label in rows.values("label")] for split, rows in splits.items()}
        self.counts = {split: Counter(name for labels in rows for name in labels) for split, rows in told.items()}
        self.several = several
        self.sizes = {split: Counter(map(len, rows)) for split, rows in told.items()}
        """Rows by how many labels they have."""
        train = self.counts["train"]
        self.names = sorted(set(train), key=lambda label: (-train[label], label))
        self.outside = outside

    def tables(self) -> list[Table]:
        """Rows by class and split; where there may be several labels, rows by how many as well."""
        return [self._by_class(), *([self._by_size()] if self.several else [])]

    def numbers(self) -> dict[str, Number]:
        """How many classes; where there may be several labels, how many a row has, and rows without one."""
        found: dict[str, Number] = {"classes": len(self.names)}
        if self.several:
            sizes: Counter[int] = sum(self.sizes.values(), Counter())
            labels = sum(size * rows for size, rows in sizes.items())
            found |= {"labels_per_row": round(labels / max(1, sizes.total()), 3), "rows_without_label": sizes[0]}
        return found

    def _by_class(self) -> Table:
        labels = [*self.names[:CLASSES_SHOWN], *([self.outside] if self.outside else [])]
        cut = f" (the {CLASSES_SHOWN} largest of {len(self.names)})" if len(self.names) > CLASSES_SHOWN else ""
        rows: list[list[Number]] = [[label, *(self.counts[split][label] for split in self.counts)] for label in labels]
        name = "label" if self.several else "class"
        return Table(f"Rows by {name}{cut}", [name, *self.counts], rows)

    def _by_size(self) -> Table:
        """Rows with no label, one, two ..."""
        most = min(SETS_SHOWN, max(max(sizes, default=0) for sizes in self.sizes.values()))
        rows: list[list[Number]] = []
        for size in range(most + 1):
            last = size == SETS_SHOWN
            counts = [
                sum(n for many, n in sizes.items() if many == size or (last and many > size))
                for sizes in self.sizes.values()
            ]
            rows.append([f"{size} or more" if last else "none" if size == 0 else str(size), *counts])
        return Table("Labels of a row", ["labels", *self.sizes], rows)

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
        return [line for due, line in said if due] + (self._of_sizes() if self.several else [])

    def _of_sizes(self) -> list[str]:
        """Many rows without a label, and rows that never have two."""
        sizes, rows = self.sizes["train"], self.sizes["train"].total()
        said = [
            (
                sizes[0] >= UNLABELLED_SHARE * rows,
                f"{sizes[0]:,} of {rows:,} training rows have no label and teach that none of the labels fits; if "
                "nobody has looked at them, write `task: {empty: drop}`",
            ),
            (
                max(sizes) < 2,
                "no training row has more than one label; is `task.separator` what stands between labels? else "
                "`labels: one` is meant",
            ),
        ]
        return [line for due, line in said if due]

    def _without(self, split: str) -> list[str]:
        return [label for label in self.names if self.counts[split] and not self.counts[split][label]]


def conflicts(found: Gathered, inputs: Mapping[str, Kind]) -> list[Table]:
    """Rows that are labelled in several ways, and what stayed."""
    if not found.conflicts:
        return []
    rows: list[list[Number]] = [
        [brief(c.row, inputs), "; ".join(f"{label} {n}" for label, n in c.labels.items()), c.kept or "none (a tie)"]
        for c in found.conflicts[:SHOWN]
    ]
    title = f"{subject(inputs)} that are labelled in several ways ({len(found.conflicts):,} in all)"
    return [Table(title, ["row", "labels", "kept"], rows)]


def _look_alike(classes: list[str]) -> list[str]:
    folded = Counter("".join(label.casefold().split()) for label in classes)
    return sorted(label for label in classes if folded["".join(label.casefold().split())] > 1)
