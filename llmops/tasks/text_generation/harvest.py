"""What users said about answers, as training rows: instructions to follow, preferences to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.core.protocols import Judged, Row
from llmops.fields.hashing import row_id
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.examples import example

LIKED = 1


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
    made = None if raw is None else example(section, raw)
    if made is None or isinstance(made, str):
        return None
    return {**made, "id": row_id(made["twin"]), "at": said.said_at, "request_id": said.id}


def pairs(section: TextGenerationSection, said: Judged) -> Row | None:
    """The preference that a correction is, whatever the section's own objective: see `harvested`."""
    row = harvested(section.model_copy(update={"objective": "preferences"}), said)
    return None if row is None else {name: value for name, value in row.items() if name != "twin"}


def served(response: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of the answer in a chat's response, and whether the model ended it itself. The server's log has it as
    "answer"; imported logs may hold OpenAI's "choices"."""
    if isinstance(response.get("answer"), str):
        return response["answer"].strip(), response.get("finish_reason") in (None, "stop")
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    message = first.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    return (content.strip() if isinstance(content, str) else ""), first.get("finish_reason") in (None, "stop")


def last_words(request: Mapping[str, Any]) -> str:
    """What the user said last in a logged request, or what a completion went on from; empty for anything else."""
    messages = request.get("messages")
    turns = messages if isinstance(messages, list) else []
    said = [turn.get("content") for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user"]
    text = said[-1] if said else request.get("prompt")
    return text if isinstance(text, str) else ""
