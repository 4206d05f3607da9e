"""explain and schema: the config documented from the docstrings of its fields."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llmops.core.errors import UsageError
from llmops.project import config_class, sections_in
from llmops.tasks import TASKS, find


def json_schema() -> dict[str, Any]:
    """The JSON schema of a config, for editors; with several tasks, any of them."""
    schemas = [config_class(find(name)).model_json_schema() for name in TASKS]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def explain_key(key: str, task: str | None = None) -> str:
    """What a section or setting means, as text; where the tasks differ (`task`, `train`, `need.accept`), of each task,
    or of the one called `task`. Raises UsageError for a key that does not exist, or a task that does not."""
    if task is not None and task not in TASKS:
        raise UsageError(f"there is no task `{task}`", do=f"take one of: {', '.join(TASKS)}")
    if not key and task is None:
        return _top({name: config_class(find(name)) for name in TASKS})
    found: dict[str, str] = {}
    trouble: UsageError | None = None
    for name in TASKS if task is None else [task]:
        try:
            found[name] = _explain(key, config_class(find(name)))
        except UsageError as error:
            trouble = trouble or error
    if not found and trouble is not None:
        raise trouble
    if len(found) == len(TASKS) and len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "\n\n".join(text if task else f"task: {{name: {name}}}\n{text}" for name, text in found.items())


def _explain(key: str, cls: type[BaseModel]) -> str:
    """The text for one task, whose config is of the class `cls`."""
    parts = [part for part in key.split(".") if part and not part.isdigit()]
    walked: list[str] = []
    for index, part in enumerate(parts):
        if part not in cls.model_fields:
            raise _unknown(key, part, walked, cls)
        field = cls.model_fields[part]
        walked.append(part)
        inner = sections_in(field.annotation)
        if not inner:
            if index < len(parts) - 1:
                raise UsageError(
                    f"`{'.'.join(walked)}` holds no further settings", do=f"llmops explain {'.'.join(walked)}"
                )
            return _field(".".join(walked), field)
        cls = inner[-1]
    return _block(key, cls)


def _unknown(key: str, part: str, walked: list[str], cls: type[BaseModel]) -> UsageError:
    near = difflib.get_close_matches(part, cls.model_fields, 1, cutoff=0.4)
    place = ".".join(walked) or "the config"
    do = f"did you mean `{'.'.join([*walked, near[0]])}`?" if near else "settings: " + ", ".join(cls.model_fields)
    return UsageError(f"`{key}` is not a setting: {place} has no `{part}`", do=do)


def _top(classes: Mapping[str, type[BaseModel]]) -> str:
    """A whole config; where the tasks' blocks differ, a line for each task's."""
    cls = next(iter(classes.values()))
    lines = _heading("", cls)
    for name in cls.model_fields:
        fields = {task: other.model_fields[name] for task, other in classes.items()}
        told, *others = dict.fromkeys(_field(name, field) for field in fields.values())
        if others:
            words = [f"    {task}: {_said(field)}" for task, field in fields.items()]
            told = "\n".join([told.partition("\n")[0], *words])
        lines += ["", told]
    lines += ["", "more of a block or a setting: llmops explain prepare, llmops explain train.epochs"]
    return "\n".join(lines)


def _block(key: str, cls: type[BaseModel]) -> str:
    lines = _heading(key, cls)
    for name, field in cls.model_fields.items():
        lines += ["", _field(name, field)]
    return "\n".join(lines)


def _heading(key: str, cls: type[BaseModel]) -> list[str]:
    return [key or "a config", *(f"  {line}" for line in (inspect.getdoc(cls) or "").splitlines())]


def _field(name: str, field: FieldInfo) -> str:
    """A setting or a block: what it may hold, its default, what it is for."""
    block = bool(sections_in(field.annotation))
    shape = "a block" if block else f"{_kind(field.annotation)}{_bounds(field.metadata)}, default {_default(field)}"
    words = _said(field)
    said = words[:1].upper() + words[1:]
    return f"{name}: {shape}\n" + "\n".join(f"    {line.strip()}" for line in said.splitlines())


def _said(field: FieldInfo) -> str:
    """What a field is for: its own words, else the first of those of the block that it holds."""
    inner = sections_in(field.annotation)
    if field.description or not inner:
        return field.description or ""
    words = (inspect.getdoc(inner[-1]) or "").partition("\n\n")[0]
    return re.sub(r"^`\w+:` ", "", words)


def _kind(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return _kind(args[0]) + "".join(_bounds(rule.metadata) for rule in args[1:] if isinstance(rule, FieldInfo))
    if typing.get_origin(annotation) is list:
        return "list of " + " or ".join(_kind(arg) for arg in args)
    if typing.get_origin(annotation) is dict:
        return "{" + ": ".join(map(_kind, args)) + "}"
    if args:
        told = [part for arg in args for part in _kind(arg).split(" | ")]
        return " | ".join(dict.fromkeys(told))
    names = {str: "text", int: "whole number", float: "number", bool: "true | false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(rules: list[Any]) -> str:
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    found = [
        f"{signs[type(rule).__name__]} {getattr(rule, type(rule).__name__.lower())}"
        for rule in rules
        if type(rule).__name__ in signs
    ]
    return f" ({', '.join(found)})" if found else ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "none: it must be given" if field.default_factory is None else str(field.default_factory())  # type: ignore[call-arg]
    if field.default is None:
        return "null"
    return json.dumps(field.default) if _unseen(field.default) else str(field.default)


def _unseen(default: Any) -> bool:
    """Whether a text shows nothing as it stands, such as a line break."""
    return isinstance(default, str) and not default.strip()
