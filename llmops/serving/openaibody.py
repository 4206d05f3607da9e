"""What OpenAI's clients send: the bodies of chat and completion requests, and what is refused of them and why."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as Invalid

from llmops.core.section import Section
from llmops.serving.grammar import Wanted
from llmops.serving.openaimessages import read_messages
from llmops.serving.openairefusal import known_alone, misread, refused
from llmops.serving.openaitools import Choice, Format, Tools, read_form
from llmops.serving.wire import whole

MOST_STOPS, MOST_TOP, MOST_CHOICES, MOST_BIASES = 4, 20, 16, 1024
BIAS = re.compile(r"\d{1,9}")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _single(value: Any) -> Any:
    """A list of one prompt is that prompt."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list) else value


def _tokens(biases: dict[str, float]) -> dict[str, float]:
    wrong = next((name for name in biases if not BIAS.fullmatch(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no token's id")
    return biases


Text = Annotated[StrictStr, AfterValidator(whole)]
Stop = Annotated[Text, Field(min_length=1)]
Bias = Annotated[StrictFloat, Field(ge=-100, le=100)]


class StreamOptions(Section):
    """How a stream is sent."""

    include_usage: StrictBool = False
    """Whether the last event counts tokens."""
    include_obfuscation: StrictBool | None = None
    """Not looked at."""


class Body(Section):
    """What both kinds of requests have."""

    stream: StrictBool | None = None
    """Send the answer piece by piece, as server-sent events."""
    stream_options: StreamOptions | None = None
    """How a stream is sent."""
    stop: Annotated[
        list[Stop] | None,
        Field(max_length=MOST_STOPS),
        BeforeValidator(_listed, json_schema_input_type=Stop | list[Stop] | None),
    ] = None
    """Strings that end the answer."""
    temperature: Annotated[StrictFloat, Field(ge=0, le=2)] | None = None
    """0 takes the likeliest token."""
    top_p: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    """Share of the probability that is drawn from."""
    seed: StrictInt | None = None
    """Equal seeds give equal answers of the same model."""
    n: Annotated[StrictInt, Field(ge=1, le=MOST_CHOICES)] | None = None
    """How many answers are written; each draws in its own way, with a seed always in the same."""
    logit_bias: Annotated[dict[StrictStr, Bias], Field(max_length=MOST_BIASES), AfterValidator(_tokens)] | None = None
    """Token id -> what is added to its logit before a token is chosen; 100 forces it, -100 bans it."""
    ignore_eos: StrictBool | None = None
    """Write on past the end token (an extension that vLLM has too, for measurements)."""


class ChatBody(Body):
    """POST /v1/chat/completions"""

    messages: list[Any]
    """The conversation."""
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    """Longest answer, in tokens."""
    max_completion_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    """The same; goes before `max_tokens`."""
    logprobs: StrictBool | None = None
    """Tell the log probability of each token."""
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MOST_TOP)] | None = None
    """Likeliest tokens to name beside each."""
    tools: Tools | None = None
    """Functions that the model may call."""
    tool_choice: Choice | None = None
    """`none`; `auto` (default): call one or more or none; `required`: call one or more; or which one to call."""
    parallel_tool_calls: StrictBool | None = None
    """Whether an answer may hold several calls (default), or one at most."""
    response_format: Format | None = None
    """What the answer is held to while it is written."""


class CompletionBody(Body):
    """POST /v1/completions"""

    prompt: Annotated[
        Text | list[StrictInt],
        BeforeValidator(
            _single, json_schema_input_type=Text | list[StrictInt] | Annotated[list[Text], Field(max_length=1)]
        ),
    ]
    """A text, or its tokens."""
    max_tokens: Annotated[StrictInt, Field(ge=0)] | None = None
    """Longest answer, in tokens; 0 with `echo` scores the prompt."""
    echo: StrictBool | None = None
    """Put the prompt before the answer."""
    logprobs: Annotated[StrictInt, Field(ge=0, le=MOST_TOP)] | None = None
    """Tell the log probability of each token, and of so many likeliest in its place."""


@dataclass(frozen=True)
class Wish:
    """A request that was read. `messages` or `prompt` is there; None elsewhere: as the model's settings say."""

    model: str | None
    messages: list[dict[str, Any]] | None
    prompt: str | list[int] | None
    max_tokens: int | None
    stop: tuple[str, ...]
    temperature: float | None
    top_p: float | None
    seed: int | None
    count: int
    """How many answers are written."""
    bias: dict[int, float]
    ignore_end: bool
    top: int | None
    """Likeliest tokens to name beside each; None: no probabilities."""
    echo: bool
    stream: bool
    include_usage: bool
    tools: list[dict[str, Any]]
    """The tools that the model is told of, as they were sent; none when none may be called."""
    wanted: Wanted | None
    """What the answer is held to."""


def read_chat(plain: dict[str, Any]) -> Wish:
    """The body of a chat request. Raises Refusal that names the field."""
    body = _read(ChatBody, plain)
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("`top_logprobs` needs `logprobs: true`", "send both, or neither", "top_logprobs")
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    top = (body.top_logprobs or 0) if body.logprobs else None
    messages = read_messages(body.messages)
    several = body.parallel_tool_calls is not False
    held = read_form(body.tools or [], body.tool_choice, several, body.response_format)
    told = json.loads(whole(json.dumps(plain["tools"], ensure_ascii=False))) if body.tools else []
    return _wish(
        plain, body, limit, top, messages=messages, tools=told if body.tool_choice != "none" else [], wanted=held
    )


def read_completion(plain: dict[str, Any]) -> Wish:
    """The body of a completion request. Raises Refusal that names the field."""
    body = _read(CompletionBody, plain)
    return _wish(plain, body, body.max_tokens, body.logprobs, prompt=body.prompt, echo=bool(body.echo))


def _wish(
    plain: dict[str, Any],
    body: Body,
    limit: int | None,
    top: int | None,
    messages: list[dict[str, Any]] | None = None,
    prompt: str | list[int] | None = None,
    echo: bool = False,
    tools: list[dict[str, Any]] | None = None,
    wanted: Wanted | None = None,
) -> Wish:
    name, options = plain.get("model"), body.stream_options
    if options is not None and not body.stream:
        raise refused("`stream_options` needs `stream: true`", "send both, or neither", "stream_options")
    bias = {int(token): float(added) for token, added in (body.logit_bias or {}).items()}
    return Wish(
        whole(name) if isinstance(name, str) else None, messages, prompt, limit, tuple(body.stop or ()),
        body.temperature, body.top_p, body.seed, body.n or 1, bias, bool(body.ignore_eos), top, echo,
        bool(body.stream), options is not None and options.include_usage, tools or [], wanted,
    )  # fmt: skip


def _read(kind: type[Any], plain: dict[str, Any]) -> Any:
    """`plain` as a body, after what would change the answer and is not supported was refused."""
    known = known_alone(plain, kind.model_fields)
    try:
        return kind.model_validate(known)
    except Invalid as error:
        raise misread(error, known) from None
