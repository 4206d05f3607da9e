"""What `llmops init` does: looks at data that nobody described and writes a config for it that works unchanged."""

from __future__ import annotations

import re
from pathlib import Path

from llmops.core.artifact import write_whole
from llmops.core.errors import UsageError
from llmops.core.places import default_root
from llmops.records.look import look
from llmops.starter import answering, classification, generation, tabular
from llmops.starter.recognise import recognise

EVERYDAY = {"train", "training", "data", "dataset", "export"}  # names of files that say nothing; the folder's name does


def write(
    folder: Path,
    data: Path,
    project: str | None = None,
    text: str | None = None,
    label: str | None = None,
    task: str | None = None,
) -> Path:
    """Write FOLDER/PROJECT.yaml for the data; returns its path.

    Raises UsageError when that file exists or there is no such task, DataError when the data can't be read or holds
    nothing that the task could learn.
    """
    name = project or project_name(data)
    path = folder / f"{name}.yaml"
    if path.exists():
        raise UsageError(f"{path} exists already.", do="delete it, or give another name with --project")
    root = default_root(folder)
    write_whole(path, draft(data, name, text, label, _as_seen_from(root, data), task, root))
    return path


def draft(
    data: Path,
    project: str | None = None,
    text: str | None = None,
    label: str | None = None,
    source: str | None = None,
    task: str | None = None,
    root: Path | None = None,
) -> str:
    """A commented config for the data, as YAML. `text` and `label` name columns (of a question and its answer, where
    answers are sought; of documents; `label` is what a table is to predict), guessed when absent; `source` is how the
    config names the data (default: its absolute path); `task` is recognised when absent; models that earlier runs made
    are looked for below `root`.

    Raises DataError when the data can't be read, lacks a named column, or holds nothing that the task could learn;
    UsageError when there is no such task.
    """
    kind = recognise(data, task, text, label)
    name, path = project or project_name(data), source or str(data.resolve())
    if kind.task == "answering":
        return answering.draft(answering.see(data, text, label), name, path)
    if kind.task == "text-generation":
        return generation.draft(generation.see(data, kind, text), name, path, root)
    if kind.task == "tabular":
        return tabular.draft(tabular.see(data, label), name, path)
    return classification.draft(look(data, text, label), name, path)


def project_name(data: Path) -> str:
    """A project's name from the name of its data."""
    whole = data.resolve()
    stem = whole.parent.name if whole.stem.casefold() in EVERYDAY else whole.stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:64] or "project"


def _as_seen_from(root: Path, data: Path) -> str:
    """The data's path for a config with this root: relative when beneath it, else absolute."""
    there = data.resolve()
    return there.relative_to(root).as_posix() if there.is_relative_to(root) else str(there)
