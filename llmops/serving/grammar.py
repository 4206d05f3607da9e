"""Grammars of answers, in the language of llguidance: JSON that meets a schema, calls of tools, words with calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.serving.dates import with_patterns

AUTO, REQUIRED = "auto", "required"
WRITTEN: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON is written in one form only, that of training rows (Python's own): where any white space may stand, a model that
is unsure writes it for ever."""


@dataclass(frozen=True)
class Callable:
    """A tool as far as calls of it are concerned: its name and the JSON schema of its arguments."""

    name: str
    schema: Mapping[str, Any]
    strict: bool = False
    """Whether a schema with keywords that cannot be held is refused; else these keywords are not looked at."""


@dataclass(frozen=True)
class Wanted:
    """What an answer is held to: `schema` is that of the JSON it must be (None: any words); beside it, or instead of
    it, it may call `tools`."""

    schema: Mapping[str, Any] | None = None
    strict: bool = False
    tools: tuple[Callable, ...] = ()
    choice: str = AUTO
    """Whether a call may come (`auto`), must come (`required`), or which must: the name of a tool."""
    several: bool = True
    """Whether more than one call may come."""

    @property
    def free(self) -> bool:
        """Whether any words may come: nothing but calls must be of a form."""
        return self.schema is None and self.choice == AUTO


def grammar(wanted: Wanted, marks: tuple[str, str], added: Mapping[str, int]) -> str:
    """The grammar of all answers that are `wanted`, in Lark's notation.

    `marks` stand around a call. `added` are tokens beside the ordinary ones, by name: words may hold them, JSON never.
    """
    if not wanted.tools:
        return alone(wanted.schema or {}, wanted.strict)
    chosen = [tool for tool in wanted.tools if wanted.choice in (AUTO, REQUIRED, tool.name)]
    opening, closing = (f"<[{added[mark]}]>" if mark in added else json.dumps(mark) for mark in marks)
    bodies = [f"body: {' | '.join(f'body_{number}' for number in range(len(chosen)))}"]
    for number, tool in enumerate(chosen):
        head = json.dumps(f'\n{{"name": {json.dumps(tool.name)}, "arguments": ')
        bodies.append(f'body_{number}: {head} {_json(tool.schema, tool.strict)} "}}\\n" {closing}')
    several = wanted.several and wanted.choice in (AUTO, REQUIRED)
    calls = [f"calls: call{' (LINE call)*' if several else ''}", 'LINE: "\\n"', f"call: {opening} body"]
    if wanted.choice != AUTO:
        return _lines("start: calls", *calls, *bodies)
    if wanted.schema is not None:
        return _lines("start: calls | answer", f"answer: {_json(wanted.schema, wanted.strict)}", *calls, *bodies)
    return _lines(*_words(marks[0], added, marks, several), *bodies)


def alone(schema: Mapping[str, Any], strict: bool) -> str:
    """The grammar of JSON that meets a schema."""
    return _lines(f"start: {_json(schema, strict)}")


def _words(opening: str, added: Mapping[str, int], marks: Sequence[str], several: bool) -> list[str]:
    """Words in which calls may stand: as soon as one is opened, by letters or by a token of its own, its body follows.
    A lazy rule ends where it first can, so that no words go on past an opened call."""
    among = "".join(f" | <[{token}]>" for name, token in added.items() if name not in marks)
    own = f" | words <[{added[opening]}]>" if opening in added else ""
    return [
        "start: call* words" if several else "start: words | call",
        f"words: (WORDS{among})*",
        "WORDS: /(.|\\n)+/",
        f"opened[lazy]: /(.|\\n)*/ {json.dumps(opening)}",
        f"call: (words opened{own}) body",
    ]


def _json(schema: Mapping[str, Any], strict: bool) -> str:
    return "%json " + json.dumps({**with_patterns(schema), "x-guidance": {**WRITTEN, "lenient": not strict}})


def _lines(*lines: str) -> str:
    return "\n".join(["%llguidance {}", *lines])
