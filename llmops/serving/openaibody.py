"""What OpenAI's clients send: the bodies of chat and completion requests, and what is refused of them and why."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as Invalid

from llmops.core.section import Section
from llmops.serving.wire import Refusal, whole

HARMLESS = frozenset(
    "model user store metadata service_tier safety_identifier prompt_cache_key prompt_cache_retention "
    "parallel_tool_calls".split()
)
"""Fields that change no word of the answer. One server serves one model, so the name of the model is not looked at:
clients have some name wired in, and an answer is of more use to them than a 404."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,),
    "logit_bias": ({},), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "suffix": ("",), "top_k": (0, -1), "min_p": (0,), "audio": (), "prediction": (), "reasoning_effort": (),
    "verbosity": (), "web_search_options": (),
}  # fmt: skip
"""Fields that would change the answer and are not supported, with the values that change nothing; nor does null."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
BESIDE = ("tool_calls", "function_call", "audio", "refusal")
"""What a message may carry only when it is empty."""
MOST_STOPS, MOST_TOP = 4, 20


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _single(value: Any) -> Any:
    """A list of one prompt is that prompt."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list) else value


Text = Annotated[StrictStr, AfterValidator(whole)]
Stop = Annotated[Text, Field(min_length=1)]
Number = Annotated[StrictFloat | StrictInt, Field()]


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
    stop: Annotated[list[Stop] | None, Field(max_length=MOST_STOPS), BeforeValidator(_listed)] = None
    """Strings that end the answer."""
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    """0 takes the likeliest token."""
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Share of the probability that is drawn from."""
    seed: StrictInt | None = None
    """Equal seeds give equal answers of the same model."""
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


class CompletionBody(Body):
    """POST /v1/completions"""

    prompt: Annotated[Text | list[StrictInt], BeforeValidator(_single)]
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
    messages: list[dict[str, str]] | None
    prompt: str | list[int] | None
    max_tokens: int | None
    stop: tuple[str, ...]
    temperature: float | None
    top_p: float | None
    seed: int | None
    ignore_end: bool
    top: int | None
    """Likeliest tokens to name beside each; None: no probabilities."""
    echo: bool
    stream: bool
    include_usage: bool


def read_chat(plain: dict[str, Any]) -> Wish:
    """The body of a chat request. Raises Refusal that names the field."""
    body = _read(ChatBody, plain)
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("`top_logprobs` needs `logprobs: true`", "send both, or neither", "top_logprobs")
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    top = (body.top_logprobs or 0) if body.logprobs else None
    return _wish(plain, body, read_messages(body.messages), None, limit, top, echo=False)


def read_completion(plain: dict[str, Any]) -> Wish:
    """The body of a completion request. Raises Refusal that names the field."""
    body = _read(CompletionBody, plain)
    return _wish(plain, body, None, body.prompt, body.max_tokens, body.logprobs, echo=bool(body.echo))


def _wish(
    plain: dict[str, Any],
    body: Body,
    messages: list[dict[str, str]] | None,
    prompt: str | list[int] | None,
    limit: int | None,
    top: int | None,
    echo: bool,
) -> Wish:
    name, options = plain.get("model"), body.stream_options
    if options is not None and not body.stream:
        raise refused("`stream_options` needs `stream: true`", "send both, or neither", "stream_options")
    return Wish(
        whole(name) if isinstance(name, str) else None, messages, prompt, limit, tuple(body.stop or ()),
        body.temperature, body.top_p, body.seed, bool(body.ignore_eos), top, echo, bool(body.stream),
        options is not None and options.include_usage,
    )  # fmt: skip


def read_messages(messages: list[Any]) -> list[dict[str, str]]:
    """Messages as {"role", "content"}: parts joined, developers called system. Raises Refusal that names the place."""
    if not messages:
        raise refused("`messages` is empty", 'send at least {"role": "user", "content": ".."}', "messages")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _message(message: Any, place: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise refused(f"{place} is not an object", 'send {"role": "user", "content": ".."}', place)
    role = message.get("role")
    if role not in ROLES:
        do = f"use one of: {', '.join(ROLES)}; tools are not supported"
        raise refused(f"{place}.role is {role!r}", do, f"{place}.role")
    for name in BESIDE:
        if message.get(name):
            raise unsupported(f"{place}.{name}")
    return {"role": ROLES[role], "content": _content(message.get("content"), f"{place}.content")}


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


def _read(kind: type[Any], plain: dict[str, Any]) -> Any:
    """`plain` as a body, after what would change the answer and is not supported was refused."""
    known = set(kind.model_fields)
    for name, value in plain.items():
        if name in known or name in HARMLESS or value is None:
            continue
        if name not in NEUTRAL:
            near = difflib.get_close_matches(name, [*known, *NEUTRAL], 1)
            do = f"did you mean `{near[0]}`?" if near else f"leave it out; the body takes: {', '.join(sorted(known))}"
            raise refused(f"there is no field `{name}`", do, name, "unknown_parameter")
        if not any(value == same for same in NEUTRAL[name]):
            raise unsupported(name)
    try:
        return kind.model_validate({name: value for name, value in plain.items() if name in known})
    except Invalid as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise refused(f"`{name}` is missing", "send it", name, "missing_required_parameter") from None
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in (name, "include_usage"))
        message = first["msg"].removeprefix("Value error, ")
        raise refused(f"`{place}`: {message[:1].lower()}{message[1:]}", "mend it", name, "invalid_value") from None


def unsupported(name: str) -> Refusal:
    """The refusal of a field that would change the answer."""
    neutral = NEUTRAL.get(name, ())
    leave = "leave it out" + (f", or send {neutral[0]!r}" if neutral and neutral[0] not in ([], {}) else "")
    what = f"`{name}` would change the answer, and this server does not support it"
    return refused(what, leave, name, "unsupported_parameter")


def refused(what: str, do: str, param: str, code: str = "invalid_value") -> Refusal:
    """A 400 that names the field."""
    return Refusal(400, code, what, do, param=param)
