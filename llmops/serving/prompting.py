"""A request made ready for the model: its prompt read, its limits filled in, the form of its answers compiled."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any

from llmops.core.protocols import WritingCodec
from llmops.serving.forms import CannotHold, Form, Forms
from llmops.serving.openaibody import Wish
from llmops.serving.openairefusal import refused
from llmops.serving.scheduler import Scheduler
from llmops.serving.stream import Ask
from llmops.serving.swap import Loaded
from llmops.serving.wire import Refusal

SHORT = 16
"""Tokens of a completion that names no limit: OpenAI's default. A chat's is the model's own."""
SCHEMA = "response_format.json_schema.schema"


class Desk:
    """A model with the scheduler that drives it, and the forms of its answers."""

    def __init__(self, model: Loaded, scheduler: Scheduler) -> None:
        self.model, self.scheduler = model, scheduler
        self.forms = Forms(self.codec)

    @property
    def codec(self) -> WritingCodec:
        """The model's codec."""
        codec: WritingCodec = self.model.predictor.codec
        return codec

    @property
    def defaults(self) -> dict[str, Any]:
        """How the model writes when a request does not say otherwise."""
        return dict(self.model.predictor.settings.get("generation", {}))


async def read_prompt(desk: Desk, wish: Wish, reader: Executor) -> list[int]:
    """The prompt's tokens. Raises Refusal when there are none, or they are none of the model's."""
    codec, loop = desk.codec, asyncio.get_running_loop()
    if wish.messages is not None and not codec.chats:
        do = "send {'prompt': ..} to /v1/completions"
        raise refused("this model has no chat template: it goes on from a text", do, "messages", "no_chat_template")
    try:
        if wish.messages is not None:
            tokens = await loop.run_in_executor(reader, codec.chat, wish.messages, wish.tools)
        elif isinstance(wish.prompt, str):
            tokens = await loop.run_in_executor(reader, codec.prompt, wish.prompt)
        else:
            tokens = _known(wish.prompt or [], codec.vocabulary)
    except ValueError as error:
        asked = "prompt" if wish.messages is None else "messages"
        raise refused(f"the model cannot read `{asked}`: {error}", "mend it and send it again", asked) from None
    if not tokens:
        raise refused("the prompt has no tokens", "send some text", "prompt")
    return list(tokens)


async def make_forms(desk: Desk, wish: Wish, compiler: Executor) -> list[Form | None]:
    """A form for each answer; None where it is held to nothing. Raises Refusal when it cannot be held.

    Where nothing asks for a form but tools that may be called, a model that cannot be held writes freely.
    """
    if wish.wanted is None:
        return [None] * wish.count
    try:
        loop = asyncio.get_running_loop()
        return list(await loop.run_in_executor(compiler, desk.forms.make, wish.wanted, wish.count))
    except CannotHold as error:
        if error.general and wish.wanted.free:
            return [None] * wish.count
        raise not_held(error, wish) from None


def not_held(error: CannotHold, wish: Wish) -> Refusal:
    """The refusal of what cannot be held, by its field."""
    place = SCHEMA if error.place is None else f"tools[{error.place}].function.parameters"
    if error.general:
        place = "response_format" if wish.wanted and wish.wanted.schema is not None else "tool_choice"
    return refused(f"answers cannot be held to `{place}`: {error}", "mend it, or leave it out", place, "invalid_schema")


def ask_for(wish: Wish, prompt: list[int], desk: Desk, forms: list[Form | None]) -> list[Ask]:
    """What the scheduler is asked, the model's defaults filled in; one for each answer. Raises Refusal when the prompt
    leaves no room."""
    defaults = desk.defaults
    limit = _limit(wish, len(prompt), desk)
    temperature = defaults.get("temperature", 1.0) if wish.temperature is None else wish.temperature
    top_p = defaults.get("top_p", 1.0) if wish.top_p is None else wish.top_p
    strange = next((token for token in wish.bias if token >= desk.codec.vocabulary), None)
    if strange is not None:
        what = f"`logit_bias`: there is no token {strange}, they go from 0 to {desk.codec.vocabulary - 1}"
        raise refused(what, "send ids of this model's tokens", "logit_bias")
    return [
        Ask(
            prompt, limit, wish.stop, float(temperature), float(top_p), wish.seed, choice, wish.bias, wish.top,
            wish.ignore_end, form,
        )
        for choice, form in enumerate(forms)
    ]  # fmt: skip


def _limit(wish: Wish, taken: int, desk: Desk) -> int:
    """Tokens that an answer may have, after a prompt that has `taken`."""
    context = desk.scheduler.context
    usual = desk.defaults.get("max_tokens", context) if wish.messages is not None else SHORT
    limit = usual if wish.max_tokens is None else wish.max_tokens
    room, least = context - taken, min(limit, 1) if limit else -1  # scoring reads all but the last token
    if room < least:
        asked = "prompt" if wish.messages is None else "messages"
        what = f"the model's context has {context} tokens, and `{asked}` takes {taken} of them"
        what += "" if taken > context else ", which leaves none for an answer"
        raise refused(what, f"shorten it by at least {least - room} tokens", asked, "context_length_exceeded")
    return int(max(0, min(limit, room)))


def _known(tokens: list[int], vocabulary: int) -> list[int]:
    """Tokens of the model. Raises ValueError for any other number."""
    wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise ValueError(f"there is no token {wrong}, they go from 0 to {vocabulary - 1}")
    return tokens
