"""The stage `prepare`: from files to a data set: read, clean, dedup, split, augment, encode."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Places, Row, Task
from llmops.core.report import Report
from llmops.core.section import Section
from llmops.records.cleaning import clean
from llmops.records.readers import source_path
from llmops.stages.prepare.augment import augment, read_synonyms
from llmops.stages.prepare.config import AugmentStep, PrepareSection, SplitStep
from llmops.stages.prepare.encode import encode
from llmops.stages.prepare.gather import Gathered, gather
from llmops.stages.prepare.harvest import harvest_file
from llmops.stages.prepare.rows import finished
from llmops.stages.prepare.summary import summary


class PrepareStage:
    """See the module."""

    name = "prepare"
    version = 1

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        prepare = _section(sections)
        settings = {
            "prepare": prepare.plain(),
            "task": sections["task"].plain(),
            "encoding": task.encoding(sections["train"]),
        }
        return Depends(settings, _files(prepare, places), ("tokenizers",))

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        prepare = _section(sections)
        split = prepare.step(SplitStep)
        test = split.test_file if split else None
        if test and source_path(test, places.root) in [source_path(source, places.root) for source in prepare.sources]:
            return [
                Mistake(
                    f"{test} is both a source and the test file.",
                    "prepare.steps",
                    do="take it out of `sources`, or leave out `test_file` and let llmops split",
                )
            ]
        return []

    def run(self, job: Job) -> Report:
        started = time.monotonic()
        prepare = job.section("prepare", PrepareSection)
        found = gather(job)
        splits = {split: [finished(row) for row in rows] for split, rows in found.splits.items()}
        made = _augmented(job, prepare, found, splits["train"])
        splits["train"] += made
        encoder = job.task.encoder(job.sections["task"], job.sections["train"])
        job.room.say("encoding " + ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()) + " rows")
        figures = encode(splits, encoder, prepare.cleaning, found.harvest_read, job.room.out / "dataset")
        found.dropped.write(job.room.out / "dropped.jsonl")
        report = summary(found, splits, len(made), figures, getattr(job.sections["task"], "outside", None))
        report.numbers["took_s"] = round(time.monotonic() - started, 2)
        return report


def _section(sections: Mapping[str, Section]) -> PrepareSection:
    section = sections["prepare"]
    assert isinstance(section, PrepareSection)
    return section


def _files(prepare: PrepareSection, places: Places) -> list[Path]:
    """The files and folders that decide the result, feedback's rows included."""
    split, augmentation = prepare.step(SplitStep), prepare.step(AugmentStep)
    paths = [source_path(source, places.root) for source in prepare.sources]
    if split is not None and split.test_file:
        paths.append(source_path(split.test_file, places.root))
    if augmentation is not None and augmentation.synonyms:
        paths.append(places.resolve(augmentation.synonyms))
    if prepare.feedback:
        paths.append(harvest_file(places))
    return [path for path in paths if path is not None]


def _augmented(job: Job, prepare: PrepareSection, found: Gathered, train: list[Row]) -> list[Row]:
    step = prepare.step(AugmentStep)
    if step is None:
        return []
    synonyms = read_synonyms(job.places.resolve(step.synonyms), step.synonyms) if step.synonyms else {}
    taken = {row["key"] for rows in found.splits.values() for row in rows}
    return augment(train, step, job.seed, taken, synonyms, lambda text: clean(text, prepare.cleaning))
