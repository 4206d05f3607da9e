"""Lists of messages as rows hold them, in OpenAI's words or ShareGPT's: who says what, and what of it is no text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.tasks.text_generation.toolwords import called_words, result_words, told_call

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
    "agent": "assistant",
    "function_call": "call", "tool_call": "call",
    "observation": "result", "tool": "result", "function": "result", "tool_response": "result",
}  # fmt: skip
"""What data sets call the speakers -> system, user, assistant, call (the assistant's), result (given to it)."""
SPOKEN = {"call": "assistant", "result": "user"}
WORDED = ("text", "input_text", "output_text")
"""What APIs call a message's part that is text."""


class Off(Exception):
    """A row that cannot be used. In words: the reason, one of a few, so that they can be counted; after a semicolon
    what it is about, by its field."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}; {detail}" if detail else reason)


@dataclass(frozen=True)
class Said:
    """A message as a row tells it: `role` is system, user or assistant, `content` its words (maybe none), `parts` how
    many of its parts are no text."""

    role: str
    content: str
    parts: int = 0


def listed(value: Any, field: str) -> list[Said]:
    """The messages of a list. Raises Off when it is none, is empty, or one of its messages cannot be read."""
    items = items_of(value, field)
    if not items:
        raise Off(f"{field} is empty")
    return [message(item, f"{field}[{number}]") for number, item in enumerate(items)]


def message(item: Any, field: str) -> Said:
    """One message, {role, content} or {from, value}. Raises Off."""
    if not isinstance(item, Mapping):
        raise Off("a message cannot be read", f"{field} is not a message but {kind_of(item)}")
    speaker, said = ("role", "content") if "role" in item else ("from", "value")
    if speaker not in item:
        raise Off("a message names no speaker", f"{field}.{'role' if 'content' in item else 'from'} is missing")
    role = ROLES.get(str(item[speaker]).lower())
    if role is None:
        raise Off("a role is unknown", f"{field}.{speaker} is {str(item[speaker])!r}, known are {', '.join(ROLES)}")
    calls = item.get("tool_calls")
    if said not in item and not calls:
        raise Off("a message has no words", f"{field}.{said} is missing")
    words, parts = _words(item.get(said), f"{field}.{said}")
    if calls:
        return Said("assistant", _called(words, items_of(calls, f"{field}.tool_calls"), field), parts)
    if role == "call" and words:
        words = told_call(words)
    if role == "result" and not (parts and not words):  # a tool may give nothing back, and that is told
        words = result_words(words)
    return Said(SPOKEN.get(role, role), words, parts)


def items_of(value: Any, field: str) -> Sequence[Any]:
    """A list, the array that a Parquet file holds instead, or the JSON of one in a table's cell. Raises Off for
    anything else."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Off(f"{field} is not a list, and not the JSON of one") from None
    if not isinstance(value, list | tuple):
        raise Off(f"{field} is not a list but {kind_of(value)}")
    return value


def plain(value: Any, field: str) -> str:
    """Text (a number is one too), its ends trimmed, maybe empty. Raises Off for what is no text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Off(f"{field} is not text but {kind_of(value)}")
    return str(value).strip()


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    names = {dict: "an object", list: "a list", tuple: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _words(value: Any, field: str) -> tuple[str, int]:
    """A message's text, and how many of its parts are none: images, files, sounds."""
    if value is None:
        return "", 0
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool | Mapping) or not isinstance(value, str | int | float | list | tuple):
        raise Off("a message's words are no text", f"{field} is not text but {kind_of(value)}")
    if not isinstance(value, list | tuple):
        return plain(value, field), 0
    texts = [_text_of(part) for part in value]
    told = [text.strip() for text in texts if text is not None]
    return "\n".join(text for text in told if text), sum(text is None for text in texts)


def _text_of(part: Any) -> str | None:
    """The text of a part, None when it is something else."""
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") in WORDED else None
    return text if isinstance(text, str) else None


def _called(said: str, calls: Sequence[Any], field: str) -> str:
    """An assistant's message with OpenAI's `tool_calls`, its words before them."""
    functions = []
    for number, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise Off("a tool call names no function", f"{field}.tool_calls[{number}]")
        functions.append(function)
    return called_words(said, functions)
