"""The HTTP face: which address does what. Every answer is JSON, but the page and /metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from llmops.core.errors import LlmopsError, UsageError
from llmops.records.traffic import TrafficLog, new_id
from llmops.serving.batcher import Batcher, Closing, QueueFull, Ticket
from llmops.serving.config import ServeSection
from llmops.serving.guard import Guard
from llmops.serving.metrics import Metrics
from llmops.serving.swap import Holder, Watcher
from llmops.serving.wire import Feedback, Refusal, http_refusal, parse_requests, read_object, validated

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css", "/icon.svg": "icon.svg"}
HUNG_UP = 499
"""nginx's status for a client that did not wait for its answer; nobody receives it, the metrics count it."""
logger = logging.getLogger(__name__)


class Service:
    """What the addresses work on. `log` is None when no traffic is kept; `watch` makes the champion's watcher."""

    def __init__(
        self,
        holder: Holder,
        settings: ServeSection,
        log: TrafficLog | None,
        watch: Callable[[Callable[[int, bool], None]], Watcher] | None = None,
    ) -> None:
        self.holder, self.settings, self.log, self.watch = holder, settings, log, watch
        self.metrics = Metrics()
        self.metrics.version.set(holder.model.version)
        self.batcher: Batcher

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        """The worker and the watcher run while the server does; at the end all that waits is answered and logged."""
        settings = self.settings
        self.batcher = Batcher(
            lambda: self.holder.model.answer, settings.max_batch, settings.max_wait_ms / 1000, settings.queue,
            self.metrics.batch.observe,
        )  # fmt: skip
        self.metrics.watch(self.batcher.waiting, lambda: self.log.dropped if self.log else 0)
        watching = asyncio.create_task(self.watch(self.swapped).run()) if self.watch else None
        try:
            yield
        finally:
            if watching:
                watching.cancel()
            await self.batcher.close()
            if self.log:
                await asyncio.to_thread(_closed, self.log)

    def swapped(self, version: int, loaded: bool) -> None:
        """Count a change of the model."""
        self.metrics.swaps.labels("loaded" if loaded else "failed").inc()
        self.metrics.version.set(self.holder.model.version)

    async def predict(self, request: Request) -> Response:
        """POST /v1/predict"""
        started = time.perf_counter()
        codec = self.holder.model.predictor.codec
        body = await read_object(request, self.settings.max_body_kb)
        asked, many = parse_requests(body, codec, self.settings)
        tickets = self._submit(asked, codec.size)
        answers = await self._settled(request, tickets)
        if answers is None:
            return Response(status_code=HUNG_UP)
        took_ms = (time.perf_counter() - started) * 1000
        said = [
            self._logged(one, answer, version, took_ms) for one, (answer, version) in zip(asked, answers, strict=True)
        ]
        return JSONResponse({"version": answers[0][1], "results": said} if many else said[0])

    def _submit(self, asked: list[Any], size: Callable[[Any], int]) -> list[Ticket]:
        try:
            return self.batcher.submit(asked, size)
        except QueueFull:
            what = f"{self.batcher.waiting()} requests are waiting already"
            raise Refusal(429, "queue-full", what, "wait a second and try again", {"Retry-After": "1"}) from None
        except Closing:
            raise Refusal(
                503, "stopping", "the server is stopping", "try again in a moment", {"Retry-After": "1"}
            ) from None

    async def _settled(self, request: Request, tickets: Sequence[Ticket]) -> list[Any] | None:
        """The answers; None when the client hung up first, and then its places are free again."""
        gone = asyncio.ensure_future(_hung_up(request))
        answered = asyncio.gather(*(ticket.answer for ticket in tickets))
        try:
            waits: set[asyncio.Future[Any]] = {gone, answered}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return await answered if answered.done() else None
        finally:
            gone.cancel()
            if not answered.done():
                self.batcher.withdraw(tickets)
                with suppress(asyncio.CancelledError):
                    await answered

    def _logged(self, asked: Any, response: Any, version: int, took_ms: float) -> dict[str, Any]:
        """One answer as it goes out, noted in the traffic log."""
        plain = response.plain()
        said = {"id": new_id(), "version": version, **plain}
        self.metrics.answers.inc()
        if response.abstained:
            self.metrics.abstentions.inc()
        if self.log:
            self.log.record(
                said["id"], version=version, text=getattr(asked, "text", None), request=asked.plain(), response=plain,
                label=response.best, probability=response.probability, abstained=response.abstained, latency_ms=took_ms,
            )  # fmt: skip
        return said

    async def feedback(self, request: Request) -> Response:
        """POST /v1/feedback"""
        body = await read_object(request, self.settings.max_body_kb)
        said: Feedback = validated(Feedback, body)
        if self.log is None:
            raise Refusal(503, "no-log", "this server keeps no traffic log", "start it with one: llmops serve CONFIG")
        correction = said.correction.strip() if said.correction else None
        try:
            kept = await asyncio.to_thread(self.log.feedback, said.id, said.rating, correction, said.by)
        except UsageError as error:
            raise Refusal(404, "unknown-id", error.mistakes[0].what, error.mistakes[0].do) from None
        if not kept:
            raise Refusal(
                503, "log-full", "the traffic log cannot take it now", "try again in a minute", {"Retry-After": "60"}
            )
        self.metrics.feedback.inc()
        new = correction is not None and correction not in self.holder.model.predictor.manifest.labels
        return JSONResponse({"id": said.id, "correction": correction, "new_label": new})

    async def model(self, request: Request) -> Response:
        """GET /v1/model"""
        model = self.holder.model
        manifest, settings = model.predictor.manifest, self.settings
        return JSONResponse({
            "version": model.version, "task": manifest.task, "labels": manifest.labels, "threshold": manifest.threshold,
            "max_tokens": manifest.max_tokens, "metrics": manifest.metrics, "lineage": manifest.lineage,
            "max_texts": min(settings.max_texts, settings.queue), "max_text_chars": settings.max_text_chars,
            "keeps_log": self.log is not None,
        })  # fmt: skip

    async def live(self, request: Request) -> Response:
        """GET /livez: the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /readyz: predictions are taken."""
        if not self.batcher.alive():
            raise Refusal(503, "not-ready", "the server takes no predictions", "send them to another one")
        return JSONResponse({"ready": True, "version": self.holder.model.version})

    async def figures(self, request: Request) -> Response:
        """GET /metrics"""
        return Response(self.metrics.text(), media_type=self.metrics.content_type)


def make_app(service: Service) -> Guard:
    """The ASGI application: the addresses, behind the guard that counts requests and sets the headers of safety."""
    posts = {"/v1/predict": service.predict, "/v1/feedback": service.feedback}
    gets = {"/v1/model": service.model, "/livez": service.live, "/readyz": service.ready, "/metrics": service.figures}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
    routes += [Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()]
    routes += [Route(path, partial(_page, PAGE / name), methods=["GET"]) for path, name in PAGE_FILES.items()]
    handlers: Any = {
        Refusal: _refused,
        HTTPException: partial(_http, set(posts)),
        ClientDisconnect: _gone,
        Exception: _broken,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=service.life)
    return Guard(app, service.metrics, {*posts, *gets, *PAGE_FILES})


def _closed(log: TrafficLog) -> None:
    try:
        log.close()
    except LlmopsError as error:
        logger.error("; ".join(error.mistakes[0].lines()))


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _page(path: Path, request: Request) -> Response:
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


async def _refused(request: Request, error: Refusal) -> Response:
    return error.response()


async def _http(posts: set[str], request: Request, error: HTTPException) -> Response:
    return http_refusal(error, ["POST"] if request.url.path in posts else ["GET", "HEAD"]).response()


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=HUNG_UP)


async def _broken(request: Request, error: Exception) -> Response:
    return Refusal(
        500, "bug", "the server made a mistake", "look into its log; your request may be sent again"
    ).response()
