"""From sources to splits: read, clean, take out what is also in the test file, dedup, split, add feedback's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Job, Row, Rows
from llmops.core.protocols.task import CLASSED
from llmops.fields.cleaning import clean
from llmops.fields.rows import Listed
from llmops.records.cleaned import cleaned, sizes, unlabelled
from llmops.records.config import SourceSection
from llmops.records.described import described_rows
from llmops.records.examples import Examples, load_examples, refuse_one_class
from llmops.records.twins import shape
from llmops.stages.prepare.batch import Batch, batch_of
from llmops.stages.prepare.config import DedupStep, PrepareSection, SplitStep
from llmops.stages.prepare.dedup import Conflict, drop_exact, drop_near, settle_conflicts
from llmops.stages.prepare.harvest import harvest_file, harvest_rows, read_harvest
from llmops.stages.prepare.labelvotes import settle_sets
from llmops.stages.prepare.nearness import Nearness
from llmops.stages.prepare.rows import Dropped
from llmops.stages.prepare.split import Splitter
from llmops.stages.prepare.untrained import refuse_unknown, trained_labels, without_unknown

MOST_ALSO_IN_TEST = 0.05  # share of training rows that may stand in the user's test file as well
LEARNT_SPLITS = ("train", "valid")


@dataclass
class Gathered:
    """The splits and what happened on the way to them."""

    splits: dict[str, Batch]
    dropped: Dropped
    loaded: list[Examples]
    conflicts: list[Conflict]
    described: int = 0
    """Rows that are descriptions of classes."""
    harvest_read: int = 0
    harvest_kept: int = 0
    near_test: list[tuple[Row, Row]] = field(default_factory=list)
    """Pairs (row of the test file, its near twin in training)."""
    untrained: Counter[str] = field(default_factory=Counter)
    """Labels that no training row has, and how many held-out rows had them."""


def gather(job: Job) -> Gathered:
    """All rows of the config's sources, test file and feedback, in their splits.

    Raises DataError when sources can't be used, too many training rows stand in the test file, or too little is left.
    """
    gathering = Gathering(job)
    gathering.read()
    rows = gathering.apart_from_test(gathering.sources)
    gathering.place(gathering.dedup(rows))
    gathering.add_harvest()
    gathering.add_described()
    if gathering.classes:
        gathering.drop_untrained_labels()
    gathering.refuse_too_little()
    gathering.count_near_test()
    return gathering.result


class Gathering:
    """The state of `gather`, one method a step."""

    def __init__(self, job: Job) -> None:
        self.job, self.task, self.task_section = job, job.task, job.sections["task"]
        self.several = job.task.predicts(self.task_section) == "classes"
        self.classes = job.task.predicts(self.task_section) in CLASSED
        self.section = job.section("prepare", PrepareSection)
        step = self.section.step(SplitStep)
        assert step is not None  # the section's validator saw to it
        self.step = step
        self.outside: str | None = getattr(self.task_section, "outside", None)
        self.splitter = Splitter(step, self.outside)
        near = (self.section.step(DedupStep) or DedupStep(near=None)).near
        self.nearness = Nearness.of(job.task.inputs(self.task_section), near)
        self.result = Gathered({}, Dropped(), [], [])
        self.sources: Batch
        self.test: Batch | None = None

    def read(self) -> None:
        """Read and clean the sources and the test file."""
        by: str = self.step.by
        extra = {by: str(getattr(self.step, by))} if by in ("group", "time") else {}
        loaded = self._load(self.section.sources, extra)
        count = len(loaded.notes)
        self.job.room.say(f"read {loaded.read:,} rows from {count} source{'s' if count > 1 else ''}")
        self.sources = self._batch(loaded.rows, by)
        if self.step.test_file:
            self.test = self._batch(self._load([self.step.test_file], {}).rows)

    def _load(self, sources: Sequence[str | SourceSection], extra: dict[str, str]) -> Examples:
        job = self.job
        loaded = load_examples(sources, job.places.root, job.task, self.task_section, self.section.max_bad_rows, extra)
        self.result.loaded.append(loaded)
        inputs = list(job.task.inputs(self.task_section))
        field = inputs[0] if len(inputs) == 1 else "excerpt"
        label: Row = {"label": None} if self.classes else {}
        for bad in loaded.bad:
            row: Row = {"origin": bad.origin, field: clean(bad.text, self.section.cleaning), **label}
            self.result.dropped.drop(row, bad.reason, detail=bad.detail)
        return loaded

    def _batch(self, rows: Rows, by: str = "") -> Batch:
        """Rows cleaned, as a batch; those go of which cleaning leaves nothing, or that nobody gave a label."""
        new, kept = cleaned(self.task, self.task_section, rows, self.section.cleaning)
        bare = kept & unlabelled(self.task_section, new)
        batch = batch_of(self.task, self.task_section, new, group=by == "group", time=by == "time")
        self.result.dropped.drop_all(batch, np.flatnonzero(~kept), "empty_after_cleaning")
        self.result.dropped.drop_all(batch, np.flatnonzero(bare), "no label")
        return batch.where(kept & ~bare)

    def apart_from_test(self, batch: Batch, limit: float = MOST_ALSO_IN_TEST) -> Batch:
        """Rows that don't stand in the test file, compared by what makes two rows equal."""
        if self.test is None or not len(self.test):
            return batch
        ours, theirs = self._equal_by(batch), self._equal_by(self.test)
        found = np.isin(ours, theirs)
        also = np.flatnonzero(found)
        if not len(also):
            return batch
        order = np.argsort(theirs, kind="stable")
        twins = order[np.searchsorted(theirs[order], ours[also])]
        origins = self.test.rows.take(twins).values("origin")
        if len(also) > limit * len(batch):
            raise DataError(
                f"{len(also):,} of {len(batch):,} training rows ({len(also) / len(batch):.1%}) also stand in "
                f"{self.step.test_file}: such a test would measure memory. "
                f"Up to {limit:.0%} are dropped, more is taken for a mistake.",
                where=f"{batch.origin(also[0])} = {origins[0]}",
                do="take the test rows out of the sources, or leave out `test_file` and let llmops split",
            )
        self.result.dropped.drop_all(batch, also, "also_in_test", [{"twin": origin} for origin in origins])
        return batch.where(~found)

    def _equal_by(self, batch: Batch) -> Any:
        """Two rows of a table may be alike in all that goes in and yet be two people; then they differ in the rest."""
        return batch.twins if self.task.columned else batch.keys

    def dedup(self, batch: Batch, near: bool = True, corrections: int = 0) -> Batch:
        """Rows without conflicts and duplicates, when the config has the step; the last of them are `corrections`."""
        if self.section.step(DedupStep) is None:
            return batch
        if self.task.settles:
            dropped = self.result.dropped
            batch, conflicts = (
                settle_sets(batch, dropped, corrections) if self.several else settle_conflicts(batch, dropped)
            )
            self.result.conflicts += conflicts
        batch = drop_exact(batch, self.result.dropped, self.task.settles)
        return self._without_near(batch) if near else batch

    def _without_near(self, batch: Batch) -> Batch:
        if self.nearness is None or not len(batch):
            return batch
        self.nearness.expect(batch.rows)
        with self.job.room.progress("near duplicates", len(batch)) as bar:
            return drop_near(batch, self.nearness.offer, self.result.dropped, bar.update)

    def place(self, batch: Batch) -> None:
        """Split the sources' rows; the test file, when there is one, is the test split as it stands."""
        along = sizes(self.task, self.task_section, batch.rows) if self.step.by == "order" else ()
        self.result.splits = self.splitter.split(batch, along)
        if self.test is not None:
            self.result.splits["test"] = self.test

    def add_harvest(self) -> None:
        """Feedback's rows join train and valid. What equals a test row goes as `also_in_test`; a correction that
        contradicts a training row is settled by the rule for conflicts, and takes that row's place when it wins. Where
        inputs may have several answers, a new one joins the split of its inputs."""
        path = harvest_file(self.job.places)
        found = read_harvest(path, self._needed()) if self.section.feedback else []
        self.result.harvest_read = len(found)
        if not found:
            return
        splits = self.result.splits
        self.test = splits["test"]
        rows = harvest_rows(self.task, self.task_section, self._of_our_shape(found), self.sources.rows)
        harvest = self.apart_from_test(self._batch(rows), limit=1.0)
        of_key = {key: split for split in LEARNT_SPLITS for key in splits[split].keys.tolist()}
        before = splits["train"].joined(splits["valid"])
        split_of = np.array(["train"] * len(splits["train"]) + ["valid"] * len(splits["valid"]) + [""] * len(harvest))
        numbered = before.joined(harvest)
        known = dict(zip(_names(numbered), split_of.tolist(), strict=True))
        merged = self.dedup(numbered, near=False, corrections=len(harvest))
        fresh = np.array([key not in of_key for key in merged.keys.tolist()], bool)
        new = merged.where(fresh)
        if self.section.step(DedupStep) is not None:
            new = self._without_near(new)
        placed = self.splitter.split_harvest(new)
        names = _names(merged)
        where = np.array([known.get(name) or of_key.get(name[1], "") for name in names])
        for split in LEARNT_SPLITS:
            splits[split] = merged.where((where == split) & ~fresh).joined(placed[split])
        ours = set(harvest.rows.values("origin"))
        self.result.harvest_kept = sum(
            origin in ours for split in LEARNT_SPLITS for origin in splits[split].rows.values("origin")
        )

    def add_described(self) -> None:
        """Descriptions of classes train; one that stands among the rows already adds nothing."""
        splits = self.result.splits
        rows = described_rows(self.task, self.task_section, trained_labels(splits["train"]))
        if not rows:
            return
        batch = self._batch(Listed(rows))
        known = np.concatenate([part.keys for part in splits.values()])
        new = batch.where(~np.isin(batch.keys, known))
        self.result.described = len(new)
        splits["train"] = splits["train"].joined(new)

    def _needed(self) -> list[str]:
        """What a harvested row must hold."""
        inputs = [] if self.task.columned else [*self.task.inputs(self.task_section)]  # a cell may be empty
        return [*inputs, *(["label"] if self.task.predicts(self.task_section) != "nothing" else [])]

    def _of_our_shape(self, found: list[Row]) -> list[Row]:
        """Without rows that were harvested for another objective (preferences, when instructions are learnt now)."""
        if self.task.columned:
            return found
        ours = {shape(row) for row in self.sources.rows}
        for row in found:
            if shape(row) not in ours:
                self.result.dropped.drop(row, "other_objective")
        return [row for row in found if shape(row) in ours]

    def drop_untrained_labels(self) -> None:
        """Labels that no training row has can't be learnt. Raises DataError when the user's test file has some."""
        splits = self.result.splits
        known = trained_labels(splits["train"]) | {str(self.outside)}
        if self.step.test_file:
            refuse_unknown(splits["test"], known, self.step.test_file, self.several)
        for split in ("valid", "test"):
            splits[split], lost = without_unknown(splits[split], known, split, self.result.dropped)
            self.result.untrained.update(lost)

    def refuse_too_little(self) -> None:
        """Raises DataError for a train or valid split without rows, and where classes are predicted and the training
        rows tell none apart."""
        splits = self.result.splits
        names = ", ".join(note.name for note in self.result.loaded[0].notes)
        reasons = (
            ", ".join(f"{reason} {n:,}" for reason, n in self.result.dropped.by_reason().items()) or "nothing dropped"
        )
        if self.classes:
            refuse_one_class(splits["train"].labels_of_rows(), names, reasons)
        if not len(splits["train"]):
            raise DataError(
                f"no row is left to train on ({reasons}).",
                where=names,
                do="add rows, or lower `valid` and `test` of the step `split`",
            )
        if not len(splits["valid"]):
            raise DataError(
                f"no row is left for validation ({len(splits['train'])} train; {reasons}).",
                where=names,
                do="add rows, or raise `valid` of the step `split`",
            )

    def count_near_test(self) -> None:
        """With a test file: its rows that have a near twin among the training rows. They stay; the report says so."""
        if not self.step.test_file or self.nearness is None or self.test is None:
            return
        for row in self.test.rows:
            twin = self.nearness.twin(row)
            if twin is not None:
                self.result.near_test.append((row, twin))


def _names(batch: Batch) -> list[tuple[str, int]]:
    """What tells a row from all others of a gathering: where it came from, and what it is equal by."""
    return list(zip(batch.rows.values("origin"), batch.keys.tolist(), strict=True))
