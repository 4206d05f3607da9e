"""CallReader: an answer's text taken apart into words and calls of tools, piece by piece as it comes.

A call stands between two marks as {"name": .., "arguments": {..}}. Where the answer is held to that form, it is told as
soon as its name is there, and its arguments as they are written. Where it is not, a call is told when it is whole, and
what looks like one and is none stays words.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')
"""What a call begins with, up to its arguments."""
STRING = re.compile(r'"(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*\\?\Z|[{}]')
"""What decides where an object ends: strings, whole or unfinished, and braces outside of them."""


@dataclass
class Call:
    """One call. `arguments` is JSON, unfinished where the answer broke off."""

    name: str
    arguments: str = ""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")


@dataclass(frozen=True)
class Grown:
    """What an answer grew by: words; or a call of this number, with the next part of its arguments. `begins`: the call
    is told for the first time."""

    words: str = ""
    number: int = -1
    arguments: str = ""
    begins: bool = False


class CallReader:
    """Reads the text of one answer."""

    def __init__(self, marks: tuple[str, str], names: Collection[str], held: bool) -> None:
        """`names` are those of the tools; `held`: the answer cannot be but of the form."""
        self._opening, self._closing = marks
        self._names, self._held = frozenset(names), held
        self.calls: list[Call] = []
        """The calls so far."""
        self._text = ""
        self._opened: str | None = None
        """The mark of the call that is being read, with the white space before it; None between calls."""
        self._told = -1
        """Characters of the opened call's arguments that were told; -1: not even its name."""

    def push(self, text: str) -> list[Grown]:
        """What is certain now that `text` came."""
        self._text += text
        grown: list[Grown] = []
        while self._words(grown) if self._opened is None else self._call(grown):
            pass
        return grown

    def end(self) -> list[Grown]:
        """What was held back, when nothing more comes. Of a call that could not be but one, and broke off before its
        name was there, nothing is told."""
        begun = self._held and self._text.lstrip()[:1] in ("", "{")
        cut = self._opened is not None and (begun or self._told >= 0)
        rest = "" if cut else (self._opened or "") + self._text
        self._text, self._opened = "", None
        return self._told_words(rest)

    def _words(self, grown: list[Grown]) -> bool:
        """Read words up to the next call; whether one opens. White space before a call is no part of the words, nor
        is what stands between two calls."""
        place = self._text.find(self._opening)
        words = self._text[: place if place >= 0 else len(self._text) - self._uncertain()]
        kept = words.rstrip() if place >= 0 else words
        grown += self._told_words(kept)
        self._text = self._text[len(words) :]
        if place >= 0:
            self._opened, self._told = words[len(kept) :] + self._opening, -1
            self._text = self._text[len(self._opening) :]
        return place >= 0

    def _told_words(self, words: str) -> list[Grown]:
        return [Grown(words=words)] if words.strip() or (words and not self.calls) else []

    def _uncertain(self) -> int:
        """Length of the text's end that may belong to a call: white space, and the beginning of a mark."""
        mark = next(
            (size for size in range(len(self._opening) - 1, 0, -1) if self._text.endswith(self._opening[:size])), 0
        )
        before = self._text[: len(self._text) - mark]
        return mark + len(before) - len(before.rstrip())

    def _call(self, grown: list[Grown]) -> bool:
        """Read the opened call; whether it came to its end."""
        head = HEAD.match(self._text)
        end = None if head is None else _object_end(self._text, head.end())
        if self._held and head is not None:
            self._tell(grown, head, len(self._text) if end is None else end)
        closed = -1 if head and end is None else self._text.find(self._closing, end or 0)
        if closed < 0:
            return False
        if self._told < 0 and not (head and end and self._whole(grown, head, self._text[:closed], end)):
            grown.append(Grown(words=f"{self._opened}{self._text[: closed + len(self._closing)]}"))
        self._text, self._opened = self._text[closed + len(self._closing) :], None
        return True

    def _tell(self, grown: list[Grown], head: re.Match[str], end: int) -> None:
        """Tell the call that is being written, as far as it goes."""
        begins, start = self._told < 0, head.end() + max(0, self._told)
        if begins:
            self.calls.append(Call(json.loads(head[1])))
        new = self._text[start:end]
        if begins or new:
            self.calls[-1].arguments += new
            self._told = end - head.end()
            grown.append(Grown(number=len(self.calls) - 1, arguments=new, begins=begins))

    def _whole(self, grown: list[Grown], head: re.Match[str], text: str, end: int) -> bool:
        """Tell a call if it is one of a tool, and JSON."""
        try:
            told = json.loads(text)
        except ValueError:
            return False
        if told["name"] not in self._names or not isinstance(told["arguments"], dict):
            return False
        self._tell(grown, head, end)
        return True


def _object_end(text: str, start: int) -> int | None:
    """Where the JSON object that begins at `start` ends; None while it goes on."""
    depth = 0
    for found in STRING.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if found[0] == "}" and depth == 0:
            return found.end()
    return None
