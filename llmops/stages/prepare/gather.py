"""From sources to splits: read, clean, take out what is also in the test file, dedup, split, add feedback's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llmops.core.errors import DataError
from llmops.core.protocols import Job, Row
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep
from llmops.fields.hashing import normalise
from llmops.fields.neartwins import NearIndex
from llmops.records.config import SourceSection
from llmops.records.examples import Examples, load_examples, refuse_one_class
from llmops.records.twins import answer_of, shape
from llmops.stages.prepare.config import DedupStep, PrepareSection, SplitStep
from llmops.stages.prepare.dedup import Conflict, drop_exact, drop_near, settle_conflicts
from llmops.stages.prepare.harvest import harvest_file, read_harvest
from llmops.stages.prepare.rows import Dropped
from llmops.stages.prepare.split import SPLITS, Splitter

MOST_ALSO_IN_TEST = 0.05  # share of training rows that may stand in the user's test file as well


@dataclass
class Gathered:
    """The splits (rows carry "key", the normalised text) and what happened on the way to them."""

    splits: dict[str, list[Row]]
    dropped: Dropped
    loaded: list[Examples]
    conflicts: list[Conflict]
    harvest_read: int = 0
    harvest_kept: int = 0
    near_test: list[tuple[Row, Row]] = field(default_factory=list)
    """Pairs (row of the test file, its near twin in training)."""


def gather(job: Job) -> Gathered:
    """All rows of the config's sources, test file and feedback, in their splits.

    Raises DataError when sources can't be used, too many training rows stand in the test file, or too little is left.
    """
    gathering = Gathering(job)
    gathering.read()
    rows = gathering.apart_from_test(gathering.sources)
    gathering.place(gathering.dedup(rows))
    gathering.add_harvest()
    if job.task.labelled:
        gathering.drop_untrained_labels()
    gathering.refuse_too_little()
    gathering.count_near_test()
    return gathering.result


class Gathering:
    """The state of `gather`, one method a step."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.section = job.section("prepare", PrepareSection)
        self.cleaning = self.section.cleaning
        step = self.section.step(SplitStep)
        assert step is not None  # the section's validator saw to it
        self.step = step
        self.near = (self.section.step(DedupStep) or DedupStep(near=None)).near
        self.outside: str | None = getattr(job.sections["task"], "outside", None)
        self.splitter = Splitter(step, self.outside, job.task.labelled)
        self.index: NearIndex | None = None
        self.result = Gathered({split: [] for split in SPLITS}, Dropped(), [], [])
        self.sources: list[Row] = []
        self.test: list[Row] = []

    def read(self) -> None:
        """Read and clean the sources and the test file."""
        by: str = self.step.by
        extra = {by: str(getattr(self.step, by))} if by in ("group", "time") else {}
        loaded = self._load(self.section.sources, extra)
        self.job.room.say(
            f"read {loaded.read:,} rows from {len(loaded.notes)} source{'s' if len(loaded.notes) > 1 else ''}"
        )
        self.sources = self._cleaned(loaded.rows)
        if self.step.test_file:
            self.test = self._cleaned(self._load([self.step.test_file], {}).rows)

    def _load(self, sources: Sequence[str | SourceSection], extra: dict[str, str]) -> Examples:
        job = self.job
        loaded = load_examples(
            sources, job.places.root, job.task, job.sections["task"], self.section.max_bad_rows, extra
        )
        self.result.loaded.append(loaded)
        for bad in loaded.bad:
            row: Row = {"origin": bad.origin, "text": clean(bad.text, self.cleaning)}
            row.update({"label": None} if job.task.labelled else {})
            self.result.dropped.drop(row, bad.reason, detail=bad.detail)
        return loaded

    def _cleaned(self, rows: Iterable[Row]) -> list[Row]:
        kept = []
        for row in rows:
            new = self.job.task.cleaned(row, lambda text: clean(text, self.cleaning))
            if self.job.task.labelled:
                new = {**new, "label": clean(row["label"], CleanStep())}
            new = {**new, "key": normalise(new["text"])}
            answer = answer_of(new)
            if new["text"].strip() and (answer is None or answer.strip("\0 \t\r\n")):
                kept.append(new)
            else:
                self.result.dropped.drop(new, "empty_after_cleaning")
        return kept

    def apart_from_test(self, rows: list[Row], limit: float = MOST_ALSO_IN_TEST) -> list[Row]:
        """Rows that don't stand in the test file, compared by their normalised text."""
        in_test = {row["key"]: row["origin"] for row in self.test}
        kept = [row for row in rows if row["key"] not in in_test]
        also = len(rows) - len(kept)
        if also > limit * len(rows):
            first = next(row for row in rows if row["key"] in in_test)
            raise DataError(
                f"{also:,} of {len(rows):,} training rows ({also / len(rows):.1%}) also stand in "
                f"{self.step.test_file}: such a test would measure memory. "
                f"Up to {limit:.0%} are dropped, more is taken for a mistake.",
                where=f"{first['origin']} = {in_test[first['key']]}",
                do="take the test rows out of the sources, or leave out `test_file` and let llmops split",
            )
        for row in rows:
            if row["key"] in in_test:
                self.result.dropped.drop(row, "also_in_test", twin=in_test[row["key"]])
        return kept

    def dedup(self, rows: list[Row], near: bool = True) -> list[Row]:
        """Rows without conflicts and duplicates, when the config has the step."""
        if self.section.step(DedupStep) is None:
            return rows
        labelled = self.job.task.labelled
        if labelled:
            rows, conflicts = settle_conflicts(rows, self.result.dropped)
            self.result.conflicts += conflicts
        rows = drop_exact(rows, self.result.dropped, labelled)
        return self._without_near(rows) if near else rows

    def _without_near(self, rows: list[Row]) -> list[Row]:
        if self.near is None:
            return rows
        if self.index is None:
            self.index = NearIndex(self.near, [row["key"] for row in rows])
        with self.job.room.progress("near duplicates", len(rows)) as bar:
            kept = []
            for row in drop_near(rows, self.index, self.result.dropped):
                kept.append(row)
                bar.update(len(kept))
        return kept

    def place(self, rows: list[Row]) -> None:
        """Split the sources' rows; the test file, when there is one, is the test split as it stands."""
        self.result.splits = self.splitter.split(rows)
        if self.step.test_file:
            self.result.splits["test"] = self.test

    def add_harvest(self) -> None:
        """Feedback's rows join train and valid. What equals a test row goes as `also_in_test`; a correction that
        contradicts a training row is settled by the rule for conflicts, and takes that row's place when it wins. Where
        texts may have several answers, a new one joins the split of its text."""
        path, labelled = harvest_file(self.job.places), self.job.task.labelled
        found = read_harvest(path, labelled) if self.section.feedback else []
        self.result.harvest_read = len(found)
        if not found:
            return
        splits = self.result.splits
        self.test = splits["test"]
        harvest = self.apart_from_test(self._cleaned(self._of_our_shape(found)), limit=1.0)
        of_text = {row["key"]: split for split in ("train", "valid") for row in splits[split]}
        of_row = {(row["origin"], row["key"]): split for split in ("train", "valid") for row in splits[split]}
        rows = self.dedup([*splits["train"], *splits["valid"], *harvest], near=False)
        fresh = [row for row in rows if row["key"] not in of_text]
        if self.section.step(DedupStep) is not None:
            fresh = self._without_near(fresh)
        placed = self.splitter.split_harvest(fresh)
        for split in ("train", "valid"):
            known = [row for row in rows if of_row.get((row["origin"], row["key"]), of_text.get(row["key"])) == split]
            splits[split] = known + placed[split]
        ours = {row["origin"] for row in harvest}
        self.result.harvest_kept = sum(row["origin"] in ours for split in ("train", "valid") for row in splits[split])

    def _of_our_shape(self, found: list[Row]) -> list[Row]:
        """Without rows that were harvested for another objective (preferences, when instructions are learnt now)."""
        ours = {shape(row) for row in self.sources}
        for row in found:
            if shape(row) not in ours:
                self.result.dropped.drop(row, "other_objective")
        return [row for row in found if shape(row) in ours]

    def drop_untrained_labels(self) -> None:
        """Labels that no training row has can't be learnt. Raises DataError when the user's test file has some."""
        splits = self.result.splits
        trained = {row["label"] for row in splits["train"]} | {self.outside}
        for split in ("valid", "test"):
            unknown = [row for row in splits[split] if row["label"] not in trained]
            if unknown and split == "test" and self.step.test_file:
                labels = sorted({row["label"] for row in unknown})
                raise DataError(
                    f"{self.step.test_file} has labels that no training row has: {', '.join(labels[:5])}.",
                    where=unknown[0]["origin"],
                    do="add training rows for them; rows that belong to no class need their label as `task.outside`",
                )
            for row in unknown:
                self.result.dropped.drop(row, "label_not_in_train", split=split)
            splits[split] = [row for row in splits[split] if row["label"] in trained]

    def refuse_too_little(self) -> None:
        """Raises DataError for a train or valid split without rows, and for fewer than two classes where rows have
        labels."""
        splits = self.result.splits
        names = ", ".join(note.name for note in self.result.loaded[0].notes)
        reasons = (
            ", ".join(f"{reason} {n:,}" for reason, n in self.result.dropped.by_reason().items()) or "nothing dropped"
        )
        if self.job.task.labelled:
            refuse_one_class(sorted({row["label"] for row in splits["train"]}), names, reasons)
        if not splits["train"]:
            raise DataError(
                f"no row is left to train on ({reasons}).",
                where=names,
                do="add rows, or lower `valid` and `test` of the step `split`",
            )
        if not splits["valid"]:
            raise DataError(
                f"no row is left for validation ({len(splits['train'])} train; {reasons}).",
                where=names,
                do="add rows, or raise `valid` of the step `split`",
            )

    def count_near_test(self) -> None:
        """With a test file: its rows that have a near twin among the training rows. They stay; the report says so."""
        if not self.step.test_file or self.near is None or self.index is None:
            return
        for row in self.test:
            twin = self.index.twin(row["key"])
            if twin is not None:
                self.result.near_test.append((row, twin))
