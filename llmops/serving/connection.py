"""Connection: one client's connection, with deadlines for what the client sends and takes, and a limit on how many."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmops.serving.config import ServeSection
from llmops.serving.metrics import Metrics
from llmops.serving.service import stopping
from llmops.serving.wire import Refusal

SPARE = 64
"""Connections over the limit that are told so at once; further ones are closed without a word."""
HEAD_BYTES = 65_536
"""Most that the headers of one request may take while they are not whole; the parser keeps all of them."""
LINGER_S = 1.0
"""How long a refused client may take to send what would otherwise make the kernel throw the refusal away."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol knows one deadline, for the time between requests. This one adds those for headers, for bodies
    and for a client that takes none of its answer. A client that waits for an answer, or reads a stream, is not
    hurried."""

    def __init__(self, limits: ServeSection, metrics: Metrics, **given: Any) -> None:
        """`given` is what uvicorn gives its protocols."""
        super().__init__(**given)
        self.limits, self.metrics = limits, metrics
        self._clock: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._part: str | None = "headers"
        """What is awaited of the client; None while it is the server's turn, and between requests."""
        self._begun = False
        """Whether a request has begun and is not whole."""
        self._head = 0
        """Bytes of headers that are not whole yet."""
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the client, or tell it that there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse()
        else:
            self._await("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._rest()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What the client sent, to the parser, whose callbacks move the deadlines."""
        if self._refused:
            self.transport.close()
            return
        super().data_received(data)
        self._head = self._head + len(data) if self._begun and self._part == "headers" else 0
        if self._head > HEAD_BYTES:
            if not self._unanswered():
                what = f"the request's headers take more than {HEAD_BYTES:,} bytes"
                self._say(Refusal(431, "headers-too-large", what, "send fewer"))
            self.transport.close()
        if not self._unanswered() and self._clock is None and self.timeout_keep_alive_task is None:
            self._await("headers")  # blank lines between requests are no sign of life

    def shutdown(self) -> None:
        """The server stops: a request that is not whole is not waited for."""
        if self._begun and self._part is not None and not (self._part == "headers" and self._unanswered()):
            if not self.cycle or not self.cycle.response_started:
                self._say(stopping())
            self.transport.close()
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._begun = True
        self._await("headers")

    def on_headers_complete(self) -> None:
        """The headers are whole: the body's turn."""
        super().on_headers_complete()
        self._await("body")

    def on_message_complete(self) -> None:
        """A request is whole; its answer may take as long as it takes."""
        super().on_message_complete()
        self._begun = False
        self._rest()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is written."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self.limits.body_timeout_s, self._cut)

    def resume_writing(self) -> None:
        """The client takes its answer."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _await(self, part: str) -> None:
        """Give the client its time for `part`: "headers" or "body"."""
        self._rest()
        self._part = part
        self._clock = self.loop.call_later(self._seconds(part), self._too_slow)

    def _seconds(self, part: str) -> float:
        return self.limits.header_timeout_s if part == "headers" else self.limits.body_timeout_s

    def _rest(self) -> None:
        """Nothing is awaited of the client."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        self._part = None

    def _unanswered(self) -> bool:
        """Whether a request that came is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _too_slow(self) -> None:
        """The deadline has passed: close, with a word where one can be said."""
        part = self._part
        assert part is not None, "a clock runs for a part"
        # The next request waits for the answer to the one before it, and so does what the client sends.
        if self.flow.read_paused or self.pipeline or (part == "headers" and self._unanswered()):
            self._await(part)
            return
        self.metrics.cut.labels(f"slow {part}").inc()
        answered = part == "body" and self.cycle.response_started
        if self._begun and not answered:
            verb = "were" if part == "headers" else "was"
            what = f"the request's {part} {verb} not there after {self._seconds(part):g} s"
            self._say(Refusal(408, "too-slow", what, "send the request again, whole"))
        self.transport.close()

    def _cut(self) -> None:
        self.metrics.cut.labels("takes no answer").inc()
        self.transport.abort()

    def _refuse(self) -> None:
        """Answer 503 before anything is asked."""
        self._refused = True
        self.metrics.cut.labels("too many").inc()
        if len(self.connections) > self.limits.max_connections + SPARE:
            self.transport.abort()
            return
        what = f"{self.limits.max_connections:,} connections are open already"
        self._say(Refusal(503, "too-many-connections", what, "try again in a second", {"Retry-After": "1"}))
        self.transport.write_eof()
        self._clock = self.loop.call_later(LINGER_S, self.transport.close)

    def _say(self, refusal: Refusal) -> None:
        """Write a refusal past the app."""
        response = refusal.response()
        response.headers["connection"] = "close"
        head = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
