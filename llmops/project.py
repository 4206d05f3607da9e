"""Project: a config file read, checked and made ready: its sections in the order of the loop, its places, its task.

One rule for paths: they are relative to `root`; by default that is the folder of the config, or the folder
above it when the config lies in one called `configs`. `runs/`, `registry/` and `traffic/` lie beneath it.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, ValidationError, create_model

from llmops.core.errors import ConfigError, Mistake
from llmops.core.places import default_root
from llmops.core.protocols import Places, Task
from llmops.core.section import Section
from llmops.core.yamlfile import Document, KeyPath, dump, read_document
from llmops.loop import LOOP, Step, load
from llmops.tasks import TASKS, find

NEED = "llmops.stages.need.config:need_section"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class ProjectSection(Section):
    """The top of a config. The blocks of the stages follow in the order of the loop."""

    version: Literal[1] = 1
    """Version of the config's shape."""
    project: Name
    """Short name; folders are called by it."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of everything random."""
    root: str | None = None
    """Folder that relative paths are relative to, itself relative to the config's folder."""


def config_class(task: Task) -> type[Section]:
    """The class of a whole config for a task: every block with its type, optional steps may be absent."""
    fields: dict[str, Any] = {"task": (task.section, ...)}
    for row in LOOP:
        block = _block(row, task)
        if row.optional:
            fields[row.name] = (block | None, None)
        elif any(field.is_required() for field in block.model_fields.values()):
            fields[row.name] = (block, ...)
        else:
            fields[row.name] = (block, block())
    return create_model("Config", __base__=ProjectSection, __doc__=ProjectSection.__doc__, **fields)


def _block(row: Step, task: Task) -> type[Section]:
    """The class of a step's block; the gates of `need` and the whole of `train` are the task's."""
    if row.name == "need":
        made: type[Section] = load(NEED)(task.accept_section)
        return made
    block: type[Section] = load(row.section) if row.section else task.train_section
    return block


@dataclass
class Project:
    """A checked config. `sections` holds the blocks by name, `document` knows where each key stands."""

    document: Document
    config: Any
    task: Task

    @property
    def name(self) -> str:
        return str(self.config.project)

    @cached_property
    def sections(self) -> dict[str, Section]:
        """The blocks that stand, by name; optional steps that are absent are left out."""
        blocks = {"task": self.config.task, **{row.name: getattr(self.config, row.name) for row in LOOP}}
        blocks["train"] = self.task.located(blocks["train"], self.places)
        if hasattr(blocks["task"], "located"):  # a task that names files of its own
            blocks["task"] = blocks["task"].located(self.places)
        blocks["task"] = self.task.briefed(blocks["task"], blocks["need"])
        return {name: block for name, block in blocks.items() if block is not None}

    @cached_property
    def places(self) -> Places:
        """Where the project's things lie."""
        folder = self.document.path.resolve().parent
        asked = self.config.root
        root = default_root(folder) if asked is None else (folder / Path(asked).expanduser()).resolve()
        return Places(root, root / "runs" / self.name, root / "registry" / self.name, root / "traffic" / self.name)

    def saved(self) -> str:
        """The config with its defaults filled in, as YAML. Values from the environment stay ${NAMES}."""
        plain = {key: value for key, value in self.config.plain().items() if value is not None}
        return dump(_keep_names(plain, self.document.raw))


def _keep_names(plain: Any, raw: Any) -> Any:
    if isinstance(raw, str) and "${" in raw:
        return raw
    if isinstance(plain, dict) and isinstance(raw, dict):
        return {key: _keep_names(value, raw.get(key)) for key, value in plain.items()}
    if isinstance(plain, list) and isinstance(raw, list):
        return [_keep_names(a, b) for a, b in zip(plain, raw, strict=False)] + plain[len(raw) :]
    return plain


def open_project(path: Path, overrides: Sequence[str] = ()) -> Project:
    """Read and check a config. Raises ConfigError with every mistake, in the order of the file."""
    document = read_document(path, overrides)
    task = _task(document)
    cls = config_class(task)
    try:
        config = cls.model_validate(document.data)
    except ValidationError as error:
        mistakes = [_mistake(document, cls, dict(found)) for found in error.errors(include_url=False)]
        in_order = sorted(_merged(mistakes), key=lambda pair: _order(document, pair[0]))
        raise ConfigError(str(path), [mistake for _, mistake in in_order]) from None
    return Project(document, config, task)


def _task(document: Document) -> Task:
    block = document.data.get("task")
    name = block.get("name") if isinstance(block, dict) else None
    if name in TASKS:
        return find(str(name))
    at: KeyPath = ("task", "name") if isinstance(block, dict) and "name" in block else ("task",)
    where, shown = document.where(at)
    what = "the config names no task" if name is None else f"there is no task `{name}`"
    near = difflib.get_close_matches(str(name), TASKS, 1)
    do = (
        f"did you mean `{near[0]}`?"
        if near
        else f"write `task: {{name: {next(iter(TASKS))}}}`; tasks: {', '.join(TASKS)}"
    )
    raise ConfigError(str(document.path), [Mistake(what, where, shown, do)])


def _mistake(document: Document, cls: type[BaseModel], found: dict[str, Any]) -> tuple[KeyPath, Mistake]:
    """A person's view of one of pydantic's errors."""
    at, block = _follow(document.data, cls, tuple(found["loc"]))
    dotted = ".".join(str(part) for part in at) or "the config"
    where, shown = document.where(at)
    parent = ".".join(str(part) for part in at[:-1])
    see = f"see: llmops explain {parent}".rstrip()
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(at[-1]), block.model_fields if block else [], 1, cutoff=0.5)
        place = f"`{parent}`" if parent else "the config"
        do = f"did you mean `{near[0]}`?  {see[0].upper()}{see[1:]}" if near else see
        return at, Mistake(f"`{dotted}` is not a setting of {place}", where, shown, do)
    if found["type"] == "missing":
        missing = ".".join(str(part) for part in found["loc"] if isinstance(part, str))
        return at, Mistake(f"`{missing}` is missing", where, shown, f"add it; {see}")
    said = str(found["msg"]).removeprefix("Value error, ")
    value = found.get("input")
    held = f" is {value!r}" if isinstance(value, str | int | float | bool) else ""
    return at, Mistake(f"`{dotted}`{held}: {said[0].lower()}{said[1:]}", where, shown, see)


def _merged(mistakes: list[tuple[KeyPath, Mistake]]) -> list[tuple[KeyPath, Mistake]]:
    """One mistake for a value that none of several allowed kinds fits; none twice."""
    found: dict[tuple[KeyPath, str], Mistake] = {}
    for at, mistake in mistakes:
        subject, colon, said = mistake.what.partition(": ")
        key = (at, subject) if colon else (at, mistake.what)
        before = found.get(key)
        if before is None:
            found[key] = mistake
        elif said not in before.what:
            found[key] = replace(before, what=f"{before.what}, or {said}")
    return [(at, mistake) for (at, _), mistake in found.items()]


def _follow(
    data: Any, cls: type[BaseModel] | None, loc: tuple[str | int, ...]
) -> tuple[KeyPath, type[BaseModel] | None]:
    """The part of pydantic's `loc` that stands in the file (it inserts names of types), and the last key's block."""
    at: list[str | int] = []
    for index, part in enumerate(loc):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if not inside:
            if isinstance(data, dict) and index == len(loc) - 1 and cls is not None and part in cls.model_fields:
                at.append(part)
            continue
        at.append(part)
        if index < len(loc) - 1:
            cls = block_of(cls, part) if isinstance(part, str) else cls
        data = data[part]
    return tuple(at), cls


def block_of(cls: type[BaseModel] | None, name: str) -> type[BaseModel] | None:
    """The block that a field of `cls` holds, looked for inside lists, dicts, unions and Optional."""
    field = cls.model_fields.get(name) if cls is not None else None
    found = sections_in(field.annotation) if field is not None else []
    return found[-1] if found else cls


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The blocks that stand anywhere in a type annotation."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in typing.get_args(annotation) for found in sections_in(part)]


def _order(document: Document, at: KeyPath) -> tuple[int, int]:
    for end in range(len(at), 0, -1):
        if (mark := document.marks.get(at[:end])) is not None:
            return mark.line, mark.column
    return 0, 0
