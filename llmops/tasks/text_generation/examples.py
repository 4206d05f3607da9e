"""Examples: a source's row as the row of the data set that the objective learns from, and the cleaning of its texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from llmops.core.protocols import Row
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.messages import Off
from llmops.tasks.text_generation.shapes import Spoken, chat, document, preference
from llmops.tasks.text_generation.toolwords import Message

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
"""`{{name}}`: what `task.fill` may replace."""
INDENT = re.compile(r"[ \t]*")


def example(section: TextGenerationSection, row: Row) -> Row | str:
    """{"document"}, {"messages"} or {"messages", "chosen", "rejected"}, each with "text", conversations with "twin" and
    what was "mended" in them (see mending.WAYS), if anything was; or in words why the row is bad."""
    try:
        if section.objective == "language-model":
            return _document(row, document(row, section.text), section.fill)
        read = chat if section.objective == "instructions" else preference
        spoken = read(row, section.join)
    except Off as off:
        return str(off)
    return _conversation(_filled(_with_default(spoken.messages, section.system), section.fill), spoken, section.fill)


def cleaned(row: Row, clean: Callable[[str], str]) -> Row:
    """The example with each of its texts cleaned line by line: a model that writes must see where lines end and how
    code is indented."""
    if "document" in row:
        text = by_line(row["document"], clean)
        return {**row, "document": text, "text": text}
    answers: Row = {name: by_line(row[name], clean).strip() for name in ("chosen", "rejected") if name in row}
    messages = [{**message, "content": by_line(message["content"], clean).strip()} for message in row["messages"]]
    return named({**row, **answers, "messages": messages})


def by_line(text: str, clean: Callable[[str], str]) -> str:
    """`text` with `clean` applied to each line; line breaks, indentation and white space at the end stay."""
    body = text.replace("\r\n", "\n").rstrip()
    lines = [_line(line, clean) for line in body.split("\n")]
    return "\n".join(lines) + text[len(text.rstrip()) :].replace("\r\n", "\n")


def named(row: Row) -> Row:
    """A conversation's row with "text" (the user's words: the split is hashed from it) and "twin" (all words: rows with
    equal ones are twins; one question may have several answers)."""
    messages: list[Message] = row["messages"]
    said = [f"{message['role']}: {message['content']}" for message in messages]
    said += [f"{name}: {row[name]}" for name in ("chosen", "rejected") if name in row]
    return {**row, "text": asked(messages), "twin": "\n".join(said)}


def asked(messages: Iterable[Mapping[str, str]]) -> str:
    """The user's words of a conversation, joined by line breaks."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def texts(row: Row) -> list[str]:
    """Every text of an example, in the order it is read."""
    if "document" in row:
        return [row["document"]]
    return [message["content"] for message in row["messages"]] + [
        row[name] for name in ("chosen", "rejected") if name in row
    ]


def unfilled(rows: Iterable[Row]) -> dict[str, int]:
    """Placeholders that `task.fill` left, and in how many rows each stands."""
    found: dict[str, int] = {}
    for row in rows:
        for name in {name for text in texts(row) for name in PLACEHOLDER.findall(text)}:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _document(row: Row, text: str, fill: Mapping[str, str]) -> Row:
    text, part = _fill(text, fill), row.get("part")
    return {"document": text, "text": text} | ({"part": part} if isinstance(part, int) else {})


def _conversation(messages: list[Message], spoken: Spoken, fill: Mapping[str, str]) -> Row:
    pair = {"chosen": spoken.chosen, "rejected": spoken.rejected}
    told = {name: _fill(text, fill) for name, text in pair.items() if text is not None}
    done = {"mended": dict(spoken.done)} if spoken.done else {}
    return named({"messages": messages, **told, **done})


def _with_default(messages: list[Message], system: str | None) -> list[Message]:
    if system is None or any(message["role"] == "system" for message in messages):
        return messages
    return [{"role": "system", "content": system}, *messages]


def _filled(messages: list[Message], fill: Mapping[str, str]) -> list[Message]:
    return [{**message, "content": _fill(message["content"], fill)} for message in messages]


def _fill(text: str, fill: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: fill.get(found[1], found[0]), text) if fill else text


def _line(line: str, clean: Callable[[str], str]) -> str:
    indent = INDENT.match(line)
    kept = indent[0] if indent else ""
    words = clean(line[len(kept) :])
    return kept + words if words else ""
