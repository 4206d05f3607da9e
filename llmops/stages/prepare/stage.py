"""The stage `prepare`: from files to a data set: read, clean, dedup, split, augment, encode."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.core.errors import Mistake
from llmops.core.protocols import Depends, Job, Places, Rows, Task
from llmops.core.protocols.task import CLASSED
from llmops.core.report import Report
from llmops.core.section import Section
from llmops.fields.cleaning import clean
from llmops.fields.config import AugmentStep
from llmops.fields.rewording import augment
from llmops.fields.rows import Listed
from llmops.records.readers import source_path
from llmops.records.unlabelled import unlabelled_files, unlabelled_texts
from llmops.stages.prepare.config import PrepareSection, SplitStep
from llmops.stages.prepare.encode import encode
from llmops.stages.prepare.gather import Gathered, gather
from llmops.stages.prepare.harvest import harvest_file
from llmops.stages.prepare.rows import finished
from llmops.stages.prepare.summary import summary
from llmops.stages.prepare.synonyms import read_synonyms


class PrepareStage:
    """See the module."""

    name = "prepare"
    version = 4

    def depends(self, sections: Mapping[str, Section], task: Task, places: Places) -> Depends:
        prepare = _section(sections)
        settings = {
            "prepare": prepare.plain(),
            "task": task.preparing(sections["task"]),
            "encoding": task.encoding(sections["train"]),
        }
        files = [*_files(prepare, places), *_tokenizer(sections["train"]), *_own_files(sections["task"])]
        return Depends(settings, files, ("tokenizers", "pyarrow") if task.columned else ("tokenizers",))

    def check(self, sections: Mapping[str, Section], task: Task, places: Places) -> list[Mistake]:
        prepare = _section(sections)
        found = []
        split = prepare.step(SplitStep)
        test = split.test_file if split else None
        if test and source_path(test, places.root) in [source_path(source, places.root) for source in prepare.sources]:
            found.append(
                Mistake(
                    f"{test} is both a source and the test file.",
                    "prepare.steps",
                    do="take it out of `sources`, or leave out `test_file` and let llmops split",
                )
            )
        if prepare.step(AugmentStep) is not None and not _rewordable(task, sections["task"]):
            found.append(
                Mistake(
                    f"`augment` changes words and keeps the label; rows of {task.name} are no texts with a label.",
                    "prepare.steps",
                    do="take the step `augment` out",
                )
            )
        return found + _unlabelled_mistakes(prepare, sections, task)

    def run(self, job: Job) -> Report:
        started = time.monotonic()
        prepare = job.section("prepare", PrepareSection)
        found = gather(job)
        splits = {split: finished(batch) for split, batch in found.splits.items()}
        made = _augmented(job, prepare, found, splits["train"])
        splits["train"] = splits["train"].joined([made]) if len(made) else splits["train"]
        unlabelled = unlabelled_texts(job, prepare, {split: batch.rows for split, batch in found.splits.items()})
        encoder: Any = job.task.encoder(job.sections["task"], job.sections["train"])
        job.room.say("encoding " + ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()) + " rows")
        classes = job.task.predicts(job.sections["task"]) in CLASSED
        figures = encode(splits, encoder, prepare.cleaning, found.harvest_read, classes, job.room.out / "dataset")
        if unlabelled is not None and len(unlabelled.rows):
            unlabelled.rows.write(job.room.out / "dataset", "unlabelled")
            encoder.unlabelled(unlabelled.rows, job.room.out / "dataset")
        found.dropped.write(job.room.out / "dropped.jsonl")
        report = summary(job, found, splits, len(made), figures)
        if unlabelled is not None:
            report.numbers |= unlabelled.numbers
            report.tables.append(unlabelled.table)
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
    return [*filter(None, paths), *unlabelled_files(prepare, places)]


def _unlabelled_mistakes(prepare: PrepareSection, sections: Mapping[str, Section], task: Any) -> list[Mistake]:
    """Why texts without labels would teach nothing, where the config names some."""
    if prepare.unlabelled is None:
        return []
    if not hasattr(task, "learns_unlabelled"):
        why, do = f"texts without labels teach nothing to a {task.name} model.", "take `unlabelled` out"
    else:
        why, do = task.learns_unlabelled(sections["train"])
    return [Mistake(why, "prepare.unlabelled", do=do)] if why else []


def _own_files(task: Section) -> list[Path]:
    """What the task's own block names: documents that can be found."""
    return task.files() if hasattr(task, "files") else []


def _tokenizer(train: Any) -> list[Path]:
    """The files by which a model in a local folder encodes: the folder of an earlier run may hold another model now."""
    folder = Path(getattr(train, "model", ""))
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    return [folder / name for name in names] if folder.is_absolute() else []


def _rewordable(task: Task, section: Any) -> bool:
    """Whether rows are one text each, with classes that stay when its words change."""
    return task.predicts(section) in CLASSED and [kind.name for kind in task.inputs(section).values()] == ["text"]


def _augmented(job: Job, prepare: PrepareSection, found: Gathered, train: Rows) -> Rows:
    step = prepare.step(AugmentStep)
    if step is None:
        return Listed([])
    synonyms = read_synonyms(job.places.resolve(step.synonyms), step.synonyms) if step.synonyms else {}
    [(name, kind)] = job.task.inputs(job.sections["task"]).items()
    taken = {kind.key(value) for batch in found.splits.values() for value in batch.rows.values(name)}
    made = augment(list(train), step, job.seed, taken, synonyms, lambda text: clean(text, prepare.cleaning), name)
    return Listed(made)
