"""What is refused of OpenAI's requests, by name: fields that would change the answer and are not supported."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError as Invalid

from llmops.serving.wire import Refusal

HARMLESS = frozenset(
    "model user store metadata service_tier safety_identifier prompt_cache_key prompt_cache_retention".split()
)
"""Fields that change no word of the answer. One server serves one model, so the name of the model is not looked at:
clients have some name wired in, and an answer is of more use to them than a 404."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,),
    "functions": ([],), "function_call": ("none", "auto"), "modalities": (["text"],),
    "suffix": ("",), "top_k": (0, -1), "min_p": (0,), "audio": (), "prediction": (), "reasoning_effort": (),
    "verbosity": (), "web_search_options": (),
}  # fmt: skip
"""Fields that would change the answer and are not supported, with the values that change nothing; nor does null."""


def known_alone(
    plain: Mapping[str, Any], known: Collection[str], neutral: Mapping[str, tuple[Any, ...]] = NEUTRAL
) -> dict[str, Any]:
    """The fields of a body that are `known`. Raises Refusal for one that would change the answer (those of `neutral`
    with other values than there), or that nobody knows."""
    for name, value in plain.items():
        if name in known or name in HARMLESS or value is None:
            continue
        if name not in neutral:
            near = difflib.get_close_matches(name, [*known, *neutral], 1)
            do = f"did you mean `{near[0]}`?" if near else f"leave it out; the body takes: {', '.join(sorted(known))}"
            raise refused(f"there is no field `{name}`", do, name, "unknown_parameter")
        if not any(value == same for same in neutral[name]):
            raise unsupported(name, neutral)
    return {name: value for name, value in plain.items() if name in known}


def unsupported(name: str, neutral: Mapping[str, tuple[Any, ...]] = NEUTRAL) -> Refusal:
    """The refusal of a field that would change the answer."""
    same = neutral.get(name, ())
    leave = "leave it out" + (f", or send {same[0]!r}" if same and same[0] not in ([], {}) else "")
    what = f"`{name}` would change the answer, and this server does not support it"
    return refused(what, leave, name, "unsupported_parameter")


def refused(what: str, do: str, param: str, code: str = "invalid_value") -> Refusal:
    """A 400 that names the field."""
    return Refusal(400, code, what, do, param=param)


def misread(error: Invalid, plain: Mapping[str, Any]) -> Refusal:
    """The refusal of a body that pydantic refused, by its first mistake."""
    first = error.errors(include_url=False, include_input=False)[0]
    place, param = _place(first["loc"], plain, first["type"])
    if first["type"] == "missing":
        return refused(f"`{place}` is missing", "send it", param, "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return refused(f"there is no field `{place}`", "leave it out", param, "unknown_parameter")
    message = first["msg"].removeprefix("Value error, ")
    return refused(f"`{place}`: {message[:1].lower()}{message[1:]}", "mend it", param)


def _place(location: tuple[str | int, ...], plain: Any, kind: str) -> tuple[str, str]:
    """Where a mistake is, as in `tools[0].function.name`, and the field that is to blame: of a list of values the list.
    Pydantic's location also names the kinds that it tried, which are no part of the body."""
    place = param = ""
    for number, part in enumerate(location):
        absent = kind == "missing" and number == len(location) - 1
        if isinstance(part, int) and isinstance(plain, list) and part < len(plain):
            place, plain = f"{place}[{part}]", plain[part]
        elif isinstance(part, str) and isinstance(plain, dict) and (part in plain or absent):
            place, plain = f"{place}.{part}" if place else part, plain.get(part)
            param = place
    return place, param
