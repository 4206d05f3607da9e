"""What OpenAI's clients send to the chat of a server that finds its answers, and what is refused of it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictFloat, StrictInt
from pydantic import ValidationError as Invalid

from llmops.core.section import Section
from llmops.serving.openaibody import StreamOptions
from llmops.serving.openaimessages import read_messages
from llmops.serving.openairefusal import NEUTRAL, known_alone, misread, refused
from llmops.serving.wire import whole

FIXED: Mapping[str, tuple[Any, ...]] = {
    **NEUTRAL,
    "n": (1,), "stop": ([],), "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},), "logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},),
    "ignore_eos": (False,),
}  # fmt: skip
"""Fields that a found answer cannot follow, with the values that change nothing."""


class FoundChatBody(Section):
    """POST /v1/chat/completions, of a model that finds its answers."""

    messages: list[Any]
    """The conversation. The user's last message is the question; system messages are not looked at."""
    stream: StrictBool | None = None
    """Send the answer as server-sent events; its words come in one."""
    stream_options: StreamOptions | None = None
    """How a stream is sent."""
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    """Longest answer, in tokens."""
    max_completion_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    """The same; goes before `max_tokens`."""
    temperature: Annotated[StrictFloat, Field(ge=0, le=2)] | None = None
    """Changes nothing: an answer is found, not drawn."""
    top_p: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    """Changes nothing."""
    seed: StrictInt | None = None
    """Changes nothing."""


@dataclass(frozen=True)
class Question:
    """A request that was read. `turns` are the user's, the last is the question; `limit` is in tokens."""

    turns: list[str]
    model: str | None
    limit: int | None
    stream: bool
    include_usage: bool


def read_question(plain: Mapping[str, Any], most_chars: int) -> Question:
    """The body of a chat request. Raises Refusal that names the field."""
    known = known_alone(plain, FoundChatBody.model_fields, FIXED)
    try:
        body = FoundChatBody.model_validate(known)
    except Invalid as error:
        raise misread(error, known) from None
    if body.stream_options is not None and not body.stream:
        raise refused("`stream_options` needs `stream: true`", "send both, or neither", "stream_options")
    name = plain.get("model")
    return Question(
        _turns(body.messages, most_chars), whole(name) if isinstance(name, str) else None,
        body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens, bool(body.stream),
        body.stream_options is not None and body.stream_options.include_usage,
    )  # fmt: skip


def _turns(sent: list[Any], most_chars: int) -> list[str]:
    """What the user said, turn by turn; earlier turns without words, or too long to be read, are left out."""
    messages = read_messages(sent)
    place = f"messages[{len(messages) - 1}]"
    if messages[-1]["role"] != "user":
        what = f"{place} is no message of the user's; the last one is the question"
        raise refused(what, 'end with {"role": "user", "content": ".."}', place)
    *earlier, last = [message["content"] for message in messages if message["role"] == "user"]
    if not last.strip():
        raise refused(f"{place}.content is empty", "ask something", f"{place}.content")
    if len(last) > most_chars:
        what, do = f"{place}.content has {len(last):,} characters", f"send at most {most_chars:,} characters"
        raise refused(what, do, f"{place}.content", "text_too_long")
    return [*(text for text in earlier if text.strip() and len(text) <= most_chars), last]
