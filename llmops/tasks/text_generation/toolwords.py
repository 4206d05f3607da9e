"""Tools as words: the one form in which a model reads which tools there are, writes a call, and reads what came back.

Training rows and served conversations are written here, whatever shape they came in:

| what                 | in whose message | words                                                    |
|----------------------|------------------|----------------------------------------------------------|
| tools that there are | the system's     | `<tools>` [{"name", "description", "parameters"}, ..]    |
| a call               | the assistant's  | `<tool_call>` {"name": .., "arguments": {..}}            |
| what a call gave     | the user's       | `<tool_response>` its words                              |

Each ends with its closing mark; marks stand on lines of their own. Hermes and Qwen write so, and servers parse it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Message = dict[str, str]

CALL = ("<tool_call>", "</tool_call>")
RESULT = ("<tool_response>", "</tool_response>")
TOOLS = ("<tools>", "</tools>")
FIRST = ("name", "description", "parameters")
"""The order of a tool's fields; clients and data sets have each their own."""
UNSAID = ("type", "strict")
"""Fields of a tool that tell the model nothing."""


def tools_words(tools: str | Sequence[Any] | None) -> str:
    """The list of tools, given as a list or as its JSON; empty for none. A text that is no JSON stays as it is."""
    listed = _parsed(tools) if isinstance(tools, str) else tools
    if not listed:
        return ""
    bare = [_bare(tool) for tool in listed] if isinstance(listed, list | tuple) else None
    words = str(tools) if bare is None else json.dumps(bare, ensure_ascii=False)
    return _within(TOOLS, words.strip()) if words.strip() else ""


def call_words(name: Any, arguments: Any) -> str:
    """A call; `arguments` are an object or its JSON, as OpenAI sends them."""
    given = _parsed(arguments) if isinstance(arguments, str) else arguments
    return _within(CALL, json.dumps({"name": name, "arguments": given}, ensure_ascii=False))


def called_words(content: Any, calls: Iterable[Mapping[str, Any]]) -> str:
    """An assistant's message with calls ({"name", "arguments"}), its words before them."""
    said = [str(content).strip()] if content else []
    return "\n".join([*said, *(call_words(call["name"], call.get("arguments", {})) for call in calls)])


def told_call(text: str) -> str:
    """A call that a data set tells as JSON (a list: several calls); words that are no call are marked as they are."""
    parsed = _parsed(text)
    calls = parsed if isinstance(parsed, list) else [parsed]
    if not calls or not all(isinstance(call, Mapping) and {"name", "arguments"} == set(call) for call in calls):
        return _within(CALL, text)
    return "\n".join(call_words(call["name"], call["arguments"]) for call in calls)


def result_words(text: str) -> str:
    """What a call gave."""
    return _within(RESULT, text)


def is_result(message: Mapping[str, str]) -> bool:
    """Whether a message is what a call gave."""
    return message["content"].startswith(RESULT[0])


def with_words(messages: Sequence[Message], words: str) -> list[Message]:
    """The conversation with `words` at the end of the system's message, which is made where there is none."""
    if not words:
        return list(messages)
    if messages and messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def _within(marks: tuple[str, str], text: str) -> str:
    return f"{marks[0]}\n{text}\n{marks[1]}"


def _bare(tool: Any) -> Any:
    """A tool without OpenAI's {"type": "function", "function": ..} around it, its fields in one order."""
    function = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    if not isinstance(function, Mapping):
        return tool
    names = [*FIRST, *(name for name in function if name not in (*FIRST, *UNSAID))]
    return {name: function[name] for name in names if function.get(name) is not None}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
