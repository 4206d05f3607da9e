"""The order of a conversation's turns: how people write is brought into what chat templates can write. One code for
rows and server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from llmops.tasks.text_generation.toolwords import Message, is_result


def in_turns(messages: Iterable[Mapping[str, str]], join: str | None) -> tuple[list[Message], Counter[str]]:
    """The conversation with its turns in order, and what was done ("joined" turns, "system" messages moved).

    Messages without words are left out, and results of tools that follow each other are one message. Turns of one role
    in a row become one, with `join` between them, and all that the system says stands in front; None keeps both as they
    were written. Applied again, it changes nothing.
    """
    told: list[Message] = []
    done: Counter[str] = Counter()
    worded = [one for one in messages if one["content"].strip()]
    system = [one["content"] for one in worded if one["role"] == "system"] if join is not None else []
    if system:
        told.append({"role": "system", "content": "\n\n".join(system)})
        done["system"] = len(system) - (worded[0]["role"] == "system")
        worded = [one for one in worded if one["role"] != "system"]
    for one in worded:
        before = told[-1] if told else {"role": "", "content": ""}
        results = is_result(one) and is_result(before)
        if one["role"] != before["role"] or not (results or join is not None):
            told.append({"role": one["role"], "content": one["content"]})
            continue
        between = "\n" if results or join is None else join
        told[-1] = {"role": one["role"], "content": f"{before['content']}{between}{one['content']}"}
        done["joined"] += not results
    return told, +done


def opening(messages: Sequence[Mapping[str, str]]) -> int:
    """How many messages come before the user's first: the system's, and a greeting of the assistant's."""
    return next((place for place, one in enumerate(messages) if one["role"] == "user"), len(messages))


def greeting(messages: Sequence[Mapping[str, str]]) -> list[str]:
    """What the assistant says before the user's first message: context, which nobody asked for."""
    return [one["content"] for one in messages[: opening(messages)] if one["role"] == "assistant"]


def greeting_within(messages: Sequence[Message]) -> list[Message]:
    """The conversation with its greeting at the head of the user's first message, for templates that let no assistant
    begin. The same without a greeting, and where the user says nothing."""
    first, said = opening(messages), greeting(messages)
    if not said or first == len(messages):
        return list(messages)
    before = [one for one in messages[:first] if one["role"] != "assistant"]
    user = {"role": "user", "content": "\n".join([*said, messages[first]["content"]])}
    return [*before, user, *messages[first + 1 :]]
