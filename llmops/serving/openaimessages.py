"""The messages of a chat request: read into plain roles and words, calls of tools matched with what came back."""

from __future__ import annotations

from typing import Any

from llmops.serving.openairefusal import refused, unsupported
from llmops.serving.wire import whole

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
BESIDE = ("function_call", "audio", "refusal")
"""What a message may carry only when it is empty."""
Message = dict[str, Any]


def read_messages(messages: list[Any]) -> list[Message]:
    """Messages as {"role", "content"}: parts joined, developers called system; an assistant's may hold `tool_calls`
    (then `content` may be null), a tool's holds `tool_call_id`. Results stand in the order of their calls, by which
    alone a template tells which is whose. Raises Refusal that names the place."""
    if not messages:
        raise refused("`messages` is empty", 'send at least {"role": "user", "content": ".."}', "messages")
    read: list[Message] = []
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        told = _message(message, place)
        if told["role"] != "tool":
            _all_answered(open_calls, place)
            open_calls = [call["id"] for call in told.get("tool_calls", ())]
        else:
            _answers(told["tool_call_id"], open_calls, place)
        read.append(told)
    _all_answered(open_calls, "the end of `messages`")
    return _in_order(read)


def _in_order(read: list[Message]) -> list[Message]:
    """The messages, with the results of several calls in the order of these."""
    for place, message in enumerate(read):
        calls = [call["id"] for call in message.get("tool_calls", ())]
        results = slice(place + 1, place + 1 + len(calls))
        read[results] = sorted(read[results], key=lambda one: calls.index(one["tool_call_id"]))
    return read


def _answers(call: str, open_calls: list[str], place: str) -> None:
    """Close the call that a tool's message answers."""
    if call not in open_calls:
        waiting = ", ".join(open_calls) or "none"
        what = f"{place}.tool_call_id is {call!r}, and no call with this id waits for its result (waiting: {waiting})"
        do = "send each result once, after the assistant's message with its call"
        raise refused(what, do, f"{place}.tool_call_id")
    open_calls.remove(call)


def _all_answered(open_calls: list[str], place: str) -> None:
    if open_calls:
        what = f"at {place} there is no result yet of the calls {', '.join(open_calls)}"
        raise refused(what, 'send {"role": "tool", "tool_call_id": "..", "content": ".."} for each', "messages")


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict):
        raise refused(f"{place} is not an object", 'send {"role": "user", "content": ".."}', place)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise refused(f"{place}.role is {role!r}", f"use one of: {', '.join(ROLES)}", f"{place}.role")
    for name in BESIDE:
        if message.get(name):
            raise unsupported(f"{place}.{name}")
    calls = message.get("tool_calls")
    if calls and role != "assistant":
        raise refused(f"{place} calls tools, and is no message of the assistant's", "leave the calls out", place)
    if calls:
        said = message.get("content")
        content = _content(said, f"{place}.content") if said else None
        return {"role": role, "content": content, "tool_calls": _calls(calls, f"{place}.tool_calls")}
    told = {"role": ROLES[role], "content": _content(message.get("content"), f"{place}.content")}
    return told if role != "tool" else told | {"tool_call_id": _text(message, "tool_call_id", place)}


def _calls(calls: Any, place: str) -> list[Message]:
    if not isinstance(calls, list):
        raise refused(f"{place} is no list", "send the calls as they came", place)
    read = [_call(call, f"{place}[{number}]") for number, call in enumerate(calls)]
    ids = [call["id"] for call in read]
    if len(set(ids)) < len(ids):
        raise refused(f"in {place} two calls have one id", "send the calls as they came", place)
    return read


def _call(call: Any, place: str) -> Message:
    if not isinstance(call, dict) or call.get("type", "function") != "function":
        raise refused(f"{place} is no call of a function", 'send {"id", "type": "function", "function": {..}}', place)
    function = call.get("function")
    if not isinstance(function, dict):
        raise refused(f"{place}.function is missing", 'send {"name": "..", "arguments": ".."}', f"{place}.function")
    name = _text(function, "name", f"{place}.function")
    # some servers send nothing where a function takes nothing
    arguments = "{}" if function.get("arguments") == "" else _text(function, "arguments", f"{place}.function")
    told = {"name": name, "arguments": arguments}
    return {"id": _text(call, "id", place), "type": "function", "function": told}


def _text(holder: Message, field: str, place: str) -> str:
    value = holder.get(field)
    if not isinstance(value, str) or not value:
        raise refused(f"{place}.{field} is no text", "send it as it came", f"{place}.{field}")
    return whole(value)


def _content(content: Any, place: str) -> str:
    if isinstance(content, str):
        return whole(content)
    if not isinstance(content, list) or not content:
        raise refused(f"{place} is no text", 'send a string, or a list of {"type": "text", "text": ".."}', place)
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text") or not isinstance(part.get("text"), str):
            what = f"{place}[{number}] is {kind!r}; the model reads text alone"
            raise refused(what, 'send {"type": "text", "text": ".."}', f"{place}[{number}]")
        texts.append(whole(part["text"]))
    return "\n".join(texts)
