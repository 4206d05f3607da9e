"""What comes in and goes out over HTTP: JSON bodies read with all their limits, and refusals that say what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    model_validator,
)
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from llmops.core.protocols import Codec
from llmops.core.section import Section
from llmops.fields.words import as_text
from llmops.serving.config import ServeSection

KB = 1000
EXAMPLE = 'send an object such as {"text": "hello"}'


class Refusal(Exception):
    """An answer that is not 200: the HTTP status, a fixed word for programs, what is wrong and what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        what: str,
        do: str,
        headers: dict[str, str] | None = None,
        param: str | None = None,
    ) -> None:
        """`param` is the field of the body that is wrong, for OpenAI's clients."""
        super().__init__(what)
        self.status, self.code, self.what, self.do, self.headers = status, code, what, do, headers
        self.param = param

    def response(self) -> JSONResponse:
        """{"error": {"what", "do", "code"}}"""
        # A wrong body's own words may be in `what`.
        error = {"what": whole(self.what), "do": self.do, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)

    def openai(self) -> JSONResponse:
        """{"error": {"message", "type", "param", "code"}}, as OpenAI's clients read it: there, a body that is JSON but
        wrong is a 400."""
        status = 400 if self.status == 422 else self.status
        return JSONResponse({"error": self.openai_error()}, status, self.headers)

    def openai_error(self) -> dict[str, str | None]:
        """The inner part of OpenAI's error."""
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        return {
            "message": f"{whole(self.what)}; {self.do}",
            "type": "server_error" if self.status >= 500 else kind,
            "param": None if self.param is None else whole(self.param),
            "code": self.code.replace("-", "_"),
        }


def whole(text: str) -> str:
    """Halves of surrogate pairs, which JSON may carry, cannot go into a database or a training file."""
    return text.encode("utf-8", "replace").decode()


def _numbers_as_text(value: Any) -> Any:
    return as_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Words = Annotated[StrictStr, AfterValidator(whole)]
Outcome = Annotated[Words, BeforeValidator(_numbers_as_text, json_schema_input_type=str | float)]
"""Words, or a number that came true."""
Name = Annotated[Words, Field(max_length=200)]
Labels = Annotated[list[Name], Field(max_length=1000)]
Correction = Annotated[
    Annotated[Outcome, Tag("text")] | Annotated[Labels, Tag("list")],
    Discriminator(lambda told: "list" if isinstance(told, list) else "text"),
]
"""One right answer, or a list of right labels."""


class Feedback(Section):
    """The body of POST /v1/feedback."""

    id: StrictStr
    """The id that came with the answer."""
    rating: StrictInt | None = None
    """1: the answer was right; -1: it was wrong."""
    correction: Correction | None = None
    """The right label (one that the model doesn't know yet is welcome), the number that came true; for a model that
    writes, the right answer; for one that gives several labels, a list of all that are right, empty where none is."""
    by: Name | None = None
    """Who says so."""

    @model_validator(mode="after")
    def _says_something(self) -> Feedback:
        if self.rating is None and self.correction is None:
            raise ValueError("give a `rating` (1 or -1), a `correction`, or both")
        if self.rating not in (None, 1, -1):
            raise ValueError("`rating` is 1 or -1")
        told = [self.correction] if isinstance(self.correction, str) else self.correction or []
        if not all(words.strip() for words in told):
            raise ValueError("`correction` is empty" if isinstance(self.correction, str) else "a label is empty")
        return self


async def read_object(request: Request, max_body_kb: int) -> dict[str, Any]:
    """The request's body, which must be a JSON object of at most `max_body_kb` KB. Raises Refusal."""
    value = await read_json(request, max_body_kb)
    if not isinstance(value, dict):
        raise _no_object(EXAMPLE)
    return value


async def read_json(request: Request, max_body_kb: int, do: str = EXAMPLE) -> Any:
    """The JSON in the request's body, which has at most `max_body_kb` KB. `do` says what to send instead of what is no
    JSON. Raises Refusal."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(
            415, "not-json", f"the content type is {kind or 'not given'}, not application/json",
            "send JSON, with the header Content-Type: application/json",
        )  # fmt: skip
    body = await _read_body(request, max_body_kb)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad-json", f"the body is not JSON: {_not_json(error)}", do) from None


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number has thousands of digits" if str(error).startswith("Exceeds the limit") else str(error)


def _no_object(do: str) -> Refusal:
    return Refusal(422, "not-an-object", "the body is JSON, but not an object", do)


async def _read_body(request: Request, max_body_kb: int) -> bytes:
    too_large = Refusal(
        413, "body-too-large", f"the body is larger than {max_body_kb:,} KB", "send fewer or shorter texts"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_kb * KB:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_body_kb * KB:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def parse_requests(body: Any, codec: Codec, settings: ServeSection) -> tuple[list[Any], bool]:
    """The codec's requests in a body, and whether it asked for many. Raises Refusal for anything wrong with it.

    For texts: {"text": ..} asks one, {"texts": [..]} many; what stands beside `texts` holds for each of them. For rows
    of fields: an object asks one, a list of objects or {"rows": [..]} many.
    """
    shared: dict[str, Any] = {}
    if isinstance(body, list) and codec.one is None:
        many: Any = body
    elif not isinstance(body, dict):
        raise _no_object(how(codec))
    elif codec.many not in body:
        return [_request(codec, body, settings, "")], False
    else:
        many, shared = body[codec.many], {name: value for name, value in body.items() if name != codec.many}
        if shared and (codec.one is None or codec.one in shared):
            raise Refusal(422, "bad-request", f"`{codec.many}` stands beside {', '.join(sorted(shared))}", how(codec))
    if not isinstance(many, list) or not many:
        raise Refusal(422, "bad-request", f"`{codec.many}` is not a list with something in it", how(codec))
    limit = min(settings.max_texts, settings.queue)
    if len(many) > limit:
        raise Refusal(413, "too-many", f"{len(many):,} {codec.many} in one call", f"send at most {limit:,} in one call")
    return [
        _request(codec, one if codec.one is None else {codec.one: one, **shared}, settings, f"{codec.many}[{place}]: ")
        for place, one in enumerate(many)
    ], True


def how(codec: Codec) -> str:
    """How to ask a model."""
    if codec.one is None:
        return f'send an object with the fields that GET /v1/model names, or {{"{codec.many}": [..]}} with several'
    return f'send {{"{codec.one}": ".."}} or {{"{codec.many}": ["..", ".."]}}'


def _request(codec: Codec, plain: Any, settings: ServeSection, where: str) -> Any:
    request = validated(codec.Request, plain, where, how(codec))
    size = codec.size(request)
    if size > settings.max_text_chars:
        do = f"send at most {settings.max_text_chars:,} characters"
        raise Refusal(413, "text-too-long", f"{where}{_too_long(codec, request, size)}", do)
    return request


def _too_long(codec: Codec, request: Any, size: int) -> str:
    """What is too long; of a row the field that holds most of it."""
    if codec.one is not None:
        return f"the {codec.one} has {size:,} characters"
    row = request.plain()
    longest = max(row, key=lambda name: len(row[name]) if isinstance(row[name], str) else 1)
    return f"the row has {size:,} characters, most of them in `{longest}`"


def validated(kind: type[Section], plain: Any, where: str = "", do: str = "") -> Any:
    """`plain` as an object of the class `kind`. Raises Refusal (422) that names every mistake."""
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        what = where + "; ".join(_words(mistake) for mistake in error.errors(include_url=False, include_input=False))
        fields = ", ".join(f"`{name}`" for name in kind.model_fields)
        raise Refusal(422, "bad-request", what, do or f"the body takes: {fields}") from None


def _words(mistake: Any) -> str:
    place = ".".join(str(part) for part in mistake["loc"] if isinstance(part, int | str))
    message = mistake["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def http_refusal(error: HTTPException, allowed: Sequence[str]) -> Refusal:
    """Starlette's own 404 and 405 in our shape."""
    if error.status_code == 405:
        allow = ", ".join(allowed)
        return Refusal(405, "wrong-method", "this address does not take that method", f"use {allow}", {"Allow": allow})
    if error.status_code == 404:
        return Refusal(404, "no-such-address", "there is nothing at this address", "GET / shows what the server offers")
    return Refusal(error.status_code, "refused", str(error.detail), "mend the request and send it again")
