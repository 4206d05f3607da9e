"""Door: the ASGI layer that names each request, asks for the key, and notes what became of it; other origins' pages
come in where the settings name them."""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmops.core.errors import MachineError
from llmops.serving.config import ServeSection
from llmops.serving.wire import Refusal

requests = logging.getLogger("llmops.requests")
"""A line of JSON for each request: no word of what was asked or answered."""
NAME = re.compile(r"[\w.:-]{1,128}", re.ASCII)
"""What a client may call its request."""
REQUEST_ID = "x-request-id"
WITHOUT_KEY = ("/livez", "/readyz", "/metrics")
"""Addresses that watchers of the machine ask."""


def key_of(settings: ServeSection) -> str | None:
    """The key that clients must send, from the environment; None: none. Raises MachineError when it is not there."""
    if settings.key_env is None:
        return None
    key = os.environ.get(settings.key_env, "").strip()
    if not key:
        what = f"the environment has no {settings.key_env}, in which `deploy.key_env` says that the key is"
        raise MachineError(what, "deploy.key_env", f"set it before the server starts: export {settings.key_env}=..")
    return key


class Door:
    """Wraps `app`. `key` is asked for at all addresses but `open_paths`; `openai` is how those begin whose errors have
    OpenAI's shape."""

    def __init__(
        self, app: ASGIApp, settings: ServeSection, key: str | None, open_paths: Collection[str], openai: Sequence[str]
    ) -> None:
        self.inner = app
        self.app = self._asked if not settings.allow_origins else CORSMiddleware(
            self._asked, allow_origins=settings.allow_origins, allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", REQUEST_ID], expose_headers=[REQUEST_ID],
        )  # fmt: skip
        self.noted = settings.log_requests
        self.key = None if key is None else key.encode()
        self.open_paths, self.openai = frozenset(open_paths), tuple(openai)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers, began, status = Headers(scope=scope), time.perf_counter(), 500
        given = headers.get(REQUEST_ID, "")
        name = given if NAME.fullmatch(given) else uuid.uuid4().hex

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = name
            await send(message)

        try:
            await self.app(scope, receive, named)
        finally:
            if self.noted:
                took_ms = round((time.perf_counter() - began) * 1000, 2)
                told = {"at": round(time.time(), 3), "id": name, "method": scope["method"], "path": scope["path"]}
                requests.info(json.dumps({**told, "status": status, "ms": took_ms}))

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in who knows the key; refusals go out past the layer of other origins, so that their pages can read
        them."""
        known = scope["type"] != "http" or self._knows(scope, Headers(scope=scope))
        await (self.inner if known else self._refused(scope["path"]))(scope, receive, send)

    def _knows(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request may come in. A browser asks without a key whether it may (OPTIONS)."""
        if self.key is None or scope["path"] in self.open_paths or scope["method"] == "OPTIONS":
            return True
        kind, _, told = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(told.strip().encode("latin-1", "replace"), self.key)

    def _refused(self, path: str) -> ASGIApp:
        what, do = "the key is missing or wrong", "send the header Authorization: Bearer KEY"
        refusal = Refusal(401, "unauthorized", what, do, {"WWW-Authenticate": "Bearer"})
        return refusal.openai() if path.startswith(self.openai) else refusal.response()
