"""The shapes that rows of chats and preferences come in, recognised by their columns; what is off is said by its field.

| shape               | columns                                                                        |
|---------------------|--------------------------------------------------------------------------------|
| OpenAI              | messages: [{role, content}]; tool calls and tool results too                   |
| ShareGPT            | conversations: [{from, value}], system, tools                                  |
| alpaca              | instruction, input, output, system, history                                    |
| prompt/completion   | prompt (text or messages) and completion, response, output or answer           |
| question/answer     | question and answer or response                                                |
| any of these        | without its answer, and with chosen and rejected: a preference                 |

Tool calls are words like others: `<tool_call>…</tool_call>` in the assistant's message, and in a user's
`<tool_response>…</tool_response>`; the list of tools is `<tools>…</tools>` in the system message. Hermes and Qwen write
them so, and servers parse it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from llmops.core.protocols import Row

Message = dict[str, str]

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
    "function_call": "call", "tool_call": "call",
    "observation": "result", "tool": "result", "function": "result", "tool_response": "result",
}  # fmt: skip
"""What data sets call the speakers -> system, user, assistant, call (the assistant's), result (given to it)."""
SPOKEN = {"call": "assistant", "result": "user"}
WHOSE = {"system": "the system's", "user": "the user's", "assistant": "the assistant's"}
LISTS = ("messages", "conversations", "conversation")
ANSWERS = ("completion", "response", "output", "answer")
PAIR = ("chosen", "rejected")


class Off(Exception):
    """A row that cannot be used; the message names the field."""


@dataclass(frozen=True)
class Spoken:
    """A conversation as a row tells it. With `chosen` and `rejected`, `messages` end with the user's."""

    messages: list[Message]
    chosen: str | None = None
    rejected: str | None = None


def chat(row: Row) -> Spoken:
    """The conversation of a row, which ends with the assistant's message. Raises Off."""
    if any(_given(row, name) for name in PAIR):
        raise Off("`chosen` and `rejected` make it a preference; `objective: preferences` learns from those")
    if row.get("label") is False:
        raise Off("label is false: an answer that was disliked")
    messages = _messages(row, answered=True)
    if messages[-1]["role"] != "assistant":
        raise Off(f"ends with {WHOSE[messages[-1]['role']]} message")
    return Spoken(messages)


def preference(row: Row) -> Spoken:
    """The conversation of a row and the two answers to its last message. Raises Off."""
    if not any(_given(row, name) for name in PAIR) and isinstance(row.get("label"), bool):
        raise Off("`label` is a thumb for one answer; a preference needs `chosen` and `rejected`")
    for name in PAIR:
        if not _given(row, name):
            raise Off(f"{name} is missing")
    (led, chosen), (led_too, rejected) = (_answer(row[name], name) for name in PAIR)
    if led and led_too and led != led_too:
        raise Off("chosen and rejected answer different conversations")
    messages = led or led_too or _messages(row, answered=False)
    if messages[-1]["role"] != "user":
        raise Off(f"ends with {WHOSE[messages[-1]['role']]} message; chosen and rejected answer the user's")
    if chosen == rejected:
        raise Off("chosen and rejected are equal")
    return Spoken(messages, chosen, rejected)


def words(row: Row, field: str) -> str:
    """A field that must hold text, its ends trimmed. Raises Off when it is missing, empty or something else."""
    if not _given(row, field):
        raise Off(f"{field} is missing")
    return _text(row[field], field)


def document(row: Row, field: str) -> str:
    """A document, as it is: parts of one must fit together again. Raises Off as `words` does."""
    words(row, field)
    return str(row[field])


def _given(row: Row, field: str) -> bool:
    """Whether the field is there; tables write an absent one as None or NaN."""
    value = row.get(field)
    return value is not None and not (isinstance(value, float) and isnan(value))


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Off(f"{field} is not text but {_kind(value)}")
    if not str(value).strip():
        raise Off(f"{field} is empty")
    return str(value).strip()


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", tuple: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _messages(row: Row, answered: bool) -> list[Message]:
    """The messages of a row of any shape; `answered` says whether the row must hold its answer."""
    name = next((name for name in LISTS if _given(row, name)), None)
    if name is not None:
        return _with_system(row, _listed(row[name], name))
    if _given(row, "instruction"):
        return _alpaca(row, answered)
    for asked in ("prompt", "question", "query"):
        if _given(row, asked):
            return _asked(row, asked, answered)
    columns = ", ".join(str(name) for name in list(row)[:8]) or "none"
    raise Off(f"no known shape of a conversation (columns: {columns})")


def _alpaca(row: Row, answered: bool) -> list[Message]:
    parts = [str(row[name]).strip() for name in ("instruction", "input") if _given(row, name)]
    user = "\n".join(part for part in parts if part)
    if not user:
        raise Off("instruction is empty")
    messages = [*_history(row), {"role": "user", "content": user}]
    if answered:
        messages.append({"role": "assistant", "content": words(row, "output")})
    return _with_system(row, messages)


def _history(row: Row) -> list[Message]:
    if not _given(row, "history"):
        return []
    messages: list[Message] = []
    for number, turn in enumerate(_list(row["history"], "history")):
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Off(f"history[{number}] is not a pair of question and answer")
        for place, role in enumerate(("user", "assistant")):
            messages.append({"role": role, "content": _text(turn[place], f"history[{number}][{place}]")})
    return messages


def _asked(row: Row, asked: str, answered: bool) -> list[Message]:
    value = row[asked]
    messages = (
        _listed(value, asked) if isinstance(value, list | tuple) else [{"role": "user", "content": _text(value, asked)}]
    )
    if answered:
        given = [name for name in ANSWERS if _given(row, name)]
        if not given:
            raise Off(f"the answer to {asked} is missing (one of: {', '.join(ANSWERS)})")
        if len(given) > 1:
            raise Off(f"{' and '.join(given)} could each be the answer to {asked}; keep one of them")
        led, answer = _answer(row[given[0]], given[0])
        if led:
            raise Off(f"{given[0]} holds more than the answer")
        messages.append({"role": "assistant", "content": answer})
    return _with_system(row, messages)


def _answer(value: Any, field: str) -> tuple[list[Message], str]:
    """An answer given as text, as a message or as messages: the messages that lead to it (maybe none), and its text."""
    if isinstance(value, Mapping):
        return _only_answer([_message(value, field)], field)
    if isinstance(value, list | tuple):
        return _only_answer(_listed(value, field, answer=True), field)
    return [], _text(value, field)


def _only_answer(messages: list[Message], field: str) -> tuple[list[Message], str]:
    if messages[-1]["role"] != "assistant":
        raise Off(f"{field} is {WHOSE[messages[-1]['role']]} message, not the assistant's")
    return messages[:-1], messages[-1]["content"]


def _list(value: Any, field: str) -> Sequence[Any]:
    if hasattr(value, "tolist"):  # an array of a Parquet file
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise Off(f"{field} is not a list but {_kind(value)}")
    return value


def _listed(value: Any, field: str, answer: bool = False) -> list[Message]:
    """Messages of a list, in an order that every chat template can write: maybe the system's, then user and assistant
    in turn. Results of tools that follow each other are one message; `answer` allows a lone assistant's message."""
    items = _list(value, field)
    if not items:
        raise Off(f"{field} is empty")
    messages: list[Message] = []
    for number, item in enumerate(items):
        message, place = _message(item, f"{field}[{number}]"), f"{field}[{number}]"
        role, before = message["role"], messages[-1]["role"] if messages else ""
        if role == "system" and messages:
            raise Off(f"{place} is the system's message; only the first may be")
        if role == "assistant" and before != "user" and not (answer and len(items) == 1):
            raise Off(f"{place} is the assistant's message, and no user's comes right before it")
        if role == before and not (_is_result(message) and _is_result(messages[-1])):
            raise Off(f"{place} is the user's message, and so is the one before it")
        if role == before:
            message = {"role": role, "content": f"{messages.pop()['content']}\n{message['content']}"}
        messages.append(message)
    return messages


def _is_result(message: Message) -> bool:
    return message["content"].startswith("<tool_response>")


def _message(item: Any, field: str) -> Message:
    """One message of a list, in OpenAI's words ({role, content}) or ShareGPT's ({from, value})."""
    if not isinstance(item, Mapping):
        raise Off(f"{field} is not a message but {_kind(item)}")
    speaker, said = ("role", "content") if "role" in item else ("from", "value")
    if speaker not in item:
        raise Off(f"{field}.{'role' if 'content' in item else 'from'} is missing")
    role = ROLES.get(str(item[speaker]).lower())
    if role is None:
        raise Off(f"{field}.{speaker} is {str(item[speaker])!r}; known are {', '.join(ROLES)}")
    if item.get("tool_calls"):
        return {"role": "assistant", "content": _called(item, field)}
    if item.get(said) is None:
        raise Off(f"{field}.{said} is missing")
    text = _parts(item[said], f"{field}.{said}")
    if role == "call":
        text = f"<tool_call>\n{text}\n</tool_call>"
    if role == "result":
        text = f"<tool_response>\n{text}\n</tool_response>"
    return {"role": SPOKEN.get(role, role), "content": text}


def _parts(value: Any, field: str) -> str:
    """A message's text; OpenAI's API also takes a list of parts, of which text alone is read."""
    if not isinstance(value, list | tuple):
        return _text(value, field)
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
        if kind != "text":
            raise Off(f"{field}[{number}] is {kind}; only text can be learnt")
    return _text("\n".join(str(part.get("text", "")) for part in value), field)


def _called(item: Mapping[str, Any], field: str) -> str:
    """An assistant's message with OpenAI's `tool_calls`, its words before them."""
    said = [str(item["content"]).strip()] if item.get("content") else []
    for number, call in enumerate(_list(item["tool_calls"], f"{field}.tool_calls")):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise Off(f"{field}.tool_calls[{number}] names no function")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _parsed(arguments)
        body = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
        said.append(f"<tool_call>\n{body}\n</tool_call>")
    return "\n".join(said)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _with_system(row: Row, messages: list[Message]) -> list[Message]:
    """The row's own `system` and `tools` in front."""
    parts = [str(row["system"]).strip()] if _given(row, "system") else []
    tools = row.get("tools") if _given(row, "tools") else None
    if tools is not None and not isinstance(tools, str):
        tools = json.dumps(_list(tools, "tools"), ensure_ascii=False)
    if tools and tools.strip() not in ("", "[]"):
        parts.append(f"<tools>\n{tools.strip()}\n</tools>")
    system = "\n\n".join(part for part in parts if part)
    if not system:
        return messages
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{system}"}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]
