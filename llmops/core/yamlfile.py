"""Reads a config file: YAML that keeps its line marks, knows 3e-4, and refuses duplicate keys.

PyYAML loads `3e-4` as text, `no` as False and lets the last of two equal keys win; all three are mended
here. `${NAME}` stands for an environment variable: `Document.data` holds its value, `Document.raw` the
name, so that a saved config never holds a secret.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llmops.core.errors import ConfigError, Mistake

KeyPath = tuple[str | int, ...]
ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Mark:
    """Where a key or item stands: line and column from 1, and the length of the word there."""

    line: int
    column: int
    length: int


@dataclass
class Document:
    """A config file as read: `data` with environment values, `raw` without, and where each key stands."""

    path: Path
    data: dict[str, Any]
    raw: dict[str, Any]
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    overrides: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, at: KeyPath, known: Mapping[KeyPath, Mark] | None = None) -> tuple[str, str]:
        """(place, snippet) of a key, or of the nearest key around it that stands in the file."""
        for end in range(len(at), -1, -1):
            if at[:end] in self.overrides:
                return self.overrides[at[:end]], ""
            if (mark := self.marks.get(at[:end])) is not None:
                return f"{self.path}:{mark.line}:{mark.column}", snippet(self.lines, mark)
        return str(self.path), ""


class Loader(yaml.SafeLoader):
    """SafeLoader with the numbers and words of YAML 1.2."""


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in found if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
               r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+0123456789."),
)  # fmt: skip


def snippet(lines: Sequence[str], mark: Mark) -> str:
    """The line of a mark with the word underlined; long lines are cut."""
    if not 0 < mark.line <= len(lines):
        return ""
    number = str(mark.line)
    text = lines[mark.line - 1][:110]
    return f"{number} | {text}\n{' ' * len(number)} | {' ' * (mark.column - 1)}{'^' * max(1, mark.length)}"


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a config file and apply `--set` overrides. Raises ConfigError with every mistake of the syntax."""
    document = _parse(path)
    for override in overrides:
        _override(document, override)
    document.data = _with_environment(document)
    return document


def _parse(path: Path) -> Document:
    text = _text(path)
    lines = text.splitlines()
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        marks: dict[KeyPath, Mark] = {}
        mistakes: list[Mistake] = []
        if node is not None:
            _walk(node, (), marks, mistakes, path, lines)
        if mistakes:
            raise ConfigError(str(path), mistakes)
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        raise _syntax_mistake(path, lines, error) from error
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        what = "the file is empty" if data is None else f"the file holds a {type(data).__name__}, not settings"
        raise ConfigError(
            str(path), [Mistake(what, str(path), do="write one, or let `llmops init --data FILE` write it")]
        )
    return Document(path, data, data, marks, lines)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        what = (
            "there is no such config file"
            if isinstance(error, FileNotFoundError)
            else f"cannot be read: {error.strerror}"
        )
        do = "check the path, or write a config with: llmops init --data FILE"
        raise ConfigError(str(path), [Mistake(what, str(path), do=do)]) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(str(path), [Mistake(f"{len(content):,} bytes is too large for a config", str(path))])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(str(path), [Mistake("is not UTF-8 text", f"{path}:{line}", do="save it as UTF-8")]) from error


def _syntax_mistake(path: Path, lines: list[str], error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read as YAML"
    if mark is None:
        return ConfigError(str(path), [Mistake(f"YAML: {problem}", str(path))])
    place = Mark(mark.line + 1, mark.column + 1, 1)
    do = (
        "indent with spaces, not tabs"
        if "\\t" in str(problem)
        else "check quotes, colons and indentation around this line"
    )
    return ConfigError(
        str(path), [Mistake(f"YAML: {problem}", f"{path}:{place.line}:{place.column}", snippet(lines, place), do)]
    )


def _walk(
    node: yaml.Node, at: KeyPath, marks: dict[KeyPath, Mark], mistakes: list[Mistake], path: Path, lines: list[str]
) -> None:
    """Note where each key stands; collect duplicate and unusable keys."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            marks[(*at, index)] = _mark(item)
            _walk(item, (*at, index), marks, mistakes, path, lines)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, Mark] = {}
        for key, value in node.value:
            mark = _mark(key)
            place = f"{path}:{mark.line}:{mark.column}"
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                mistakes.append(Mistake("a key must be a plain word", place, snippet(lines, mark), "write it out"))
                continue
            if key.value in seen:
                first = seen[key.value].line
                do = f"keep one of them; the first is on line {first}"
                mistakes.append(Mistake(f"`{key.value}` stands twice", place, snippet(lines, mark), do))
            seen[key.value] = mark
            marks[(*at, key.value)] = mark
            _walk(value, (*at, key.value), marks, mistakes, path, lines)


def _mark(node: yaml.Node) -> Mark:
    length = len(node.value) if isinstance(node, yaml.ScalarNode) and node.start_mark.line == node.end_mark.line else 1
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1, length)


def _override(document: Document, override: str) -> None:
    """Apply one `--set section.key=value`; the value is read as YAML."""
    place = f"--set {override}"
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        do = "write --set section.key=value, for example --set train.epochs=2"
        raise ConfigError(str(document.path), [Mistake("a setting needs a key and a value", place, do=do)])
    try:
        value = yaml.load(text, Loader)  # a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(
            str(document.path), [Mistake(f"the value `{text}` is not YAML", place, do="quote it")]
        ) from error
    at: list[str | int] = [int(part) if part.isdigit() else part for part in key.split(".")]
    target: Any = document.data
    for part in at[:-1]:
        target = _step_into(document, target, part, place)
    last = at[-1]
    if isinstance(target, list) and isinstance(last, int) and last < len(target):
        target[last] = value
    elif isinstance(target, dict):
        target[str(last)] = value
    else:
        raise ConfigError(
            str(document.path), [Mistake(f"there is no place `{key}` to set", place, do="llmops explain")]
        )
    document.overrides[tuple(at)] = place


def _step_into(document: Document, target: Any, part: str | int, place: str) -> Any:
    if isinstance(target, list) and isinstance(part, int) and part < len(target):
        return target[part]
    if isinstance(target, dict):
        if target.get(str(part)) is None:
            target[str(part)] = {}
        return target[str(part)]
    raise ConfigError(str(document.path), [Mistake(f"`{part}` does not lead anywhere", place, do="llmops explain")])


def _with_environment(document: Document) -> dict[str, Any]:
    """A copy of the data with ${NAME} replaced; all missing variables are reported at once."""
    mistakes: list[Mistake] = []

    def fill(value: Any, at: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: fill(item, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item, (*at, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        for name in ENV.findall(value):
            if name not in os.environ:
                place, shown = document.where(at)
                mistakes.append(Mistake(f"the environment has no variable {name}", place, shown, f"export {name}=..."))
        return ENV.sub(lambda found: os.environ.get(found[1], ""), value)

    filled: dict[str, Any] = fill(copy.deepcopy(document.data), ())
    if mistakes:
        raise ConfigError(str(document.path), mistakes)
    return filled


def dump(data: Any) -> str:
    """YAML text of plain data, in the order of its keys."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))
