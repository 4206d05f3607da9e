"""What users said about answers, as training rows: instructions to follow, preferences to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.protocols import Judged, Row
from llmops.fields.hashing import row_id
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.examples import example
from llmops.tasks.text_generation.messages import Off
from llmops.tasks.text_generation.messages import message as as_said
from llmops.tasks.text_generation.turns import in_turns

LIKED = 1
WHOLE = (None, "stop", "tool_calls")
"""How an answer ends that the model ended itself."""


def harvested(section: TextGenerationSection, said: Judged) -> Row | None:
    """The row that an opinion becomes, or None.

    Instructions: the conversation with the corrected answer, or with the served one when it was liked and came to its
    end. Preferences: the correction is chosen, the served answer rejected; a rating alone compares nothing. Documents:
    nothing. Rows carry "id", "at", "request_id" besides what `example` gives.
    """
    messages = (said.request or {}).get("messages")
    if section.objective == "language-model" or not isinstance(messages, list) or not messages:
        return None
    answer, whole = served(said.response or {})
    correction = (said.correction or "").strip()
    if section.objective == "instructions":
        wanted = correction or (answer if said.rating == LIKED and whole else "")
        raw: Row | None = {"messages": [*messages, {"role": "assistant", "content": wanted}]} if wanted else None
    else:
        raw = {"messages": messages, "chosen": correction, "rejected": answer} if correction and answer else None
    tools = (said.request or {}).get("tools")
    made = None if raw is None else example(section, raw | ({"tools": tools} if tools else {}))
    if made is None or isinstance(made, str):
        return None
    return {**made, "id": row_id(made["twin"]), "at": said.said_at, "request_id": said.id}


def pairs(section: TextGenerationSection, said: Judged) -> Row | None:
    """The preference that a correction is, whatever the section's own objective: see `harvested`."""
    row = harvested(section.model_copy(update={"objective": "preferences"}), said)
    return None if row is None else {name: value for name, value in row.items() if name != "twin"}


def served(response: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of the answer in a chat's response, calls of tools as training rows have them, and whether the model
    ended it itself. The server's log has it as "answer"; imported logs may hold OpenAI's "choices". Where there are
    several, nobody knows which was meant, and there is none."""
    if isinstance(response.get("answer"), str):
        return response["answer"].strip(), response.get("finish_reason") in WHOLE
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], Mapping) else {}
    message = first.get("message")
    if not isinstance(message, Mapping):
        return "", False
    try:
        text = as_said({**message, "role": "assistant"}, "message").content
    except Off:
        text = ""
    return text, first.get("finish_reason") in WHOLE


def last_words(request: Mapping[str, Any], join: str | None) -> str:
    """What the user said last in a logged request (turns joined as in training rows, see turns.in_turns), or what a
    completion went on from; empty for anything else."""
    messages = request.get("messages")
    turns = [turn for turn in messages if isinstance(turn, Mapping)] if isinstance(messages, list) else []
    plain = [
        {"role": str(turn.get("role")), "content": turn["content"]}
        for turn in turns
        if isinstance(turn.get("content"), str)
    ]
    said = [turn["content"] for turn in in_turns(plain, join)[0] if turn["role"] == "user"]
    text = said[-1] if said else request.get("prompt")
    return text if isinstance(text, str) else ""
