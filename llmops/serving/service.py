"""Service: what the addresses of every server work on: the model, the traffic log, feedback, health, figures."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llmops.core.errors import LlmopsError, UsageError
from llmops.records.traffic import TrafficLog
from llmops.serving.config import ServeSection
from llmops.serving.embeddings import ADDRESS as EMBEDDINGS
from llmops.serving.embeddings import no_embeddings
from llmops.serving.metrics import Metrics
from llmops.serving.openapi import document
from llmops.serving.summed import EVERY_S, Summed
from llmops.serving.swap import Holder, Watcher
from llmops.serving.wire import Feedback, Refusal, read_object, validated

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
T = TypeVar("T")
HUNG_UP = 499
"""nginx's status for a client that did not wait for its answer; nobody receives it, the metrics count it."""
KNOWN_TRIES, KNOWN_S = 6, 0.05
"""So often, and each time so many seconds later, a worker looks for what another one answered."""
PAGE = Path(__file__).parent / "page"
logger = logging.getLogger(__name__)


class Service(ABC):
    """The parts that all servers share. `log` is None when no traffic is kept; `watch` makes the champion's watcher."""

    pages: Mapping[str, str]
    """Addresses of the page's files, by their names in the folder `page`."""
    prose: ClassVar[bool]
    """Whether a correction is the right answer's words, and not a label."""
    speaks_openai: ClassVar[tuple[str, ...]] = (EMBEDDINGS,)
    """How addresses begin whose errors have OpenAI's shape."""

    def __init__(
        self,
        holder: Holder,
        settings: ServeSection,
        log: TrafficLog | None,
        metrics: Metrics,
        watch: Callable[[Callable[[int, bool], None]], Watcher] | None = None,
    ) -> None:
        self.holder, self.settings, self.log, self.watch = holder, settings, log, watch
        self.metrics = metrics
        self.metrics.version.set(holder.model.version)
        self.summed: Summed | None = None
        """Where there are several workers, their figures together."""

    @property
    def posts(self) -> dict[str, Endpoint]:
        """What answers POST, by address."""
        return {"/v1/feedback": self.feedback, EMBEDDINGS: self.embed}

    @property
    def gets(self) -> dict[str, Endpoint]:
        """What answers GET, by address."""
        return {
            "/v1/model": self.model, "/livez": self.live, "/readyz": self.ready, "/metrics": self.figures,
            "/openapi.json": self.interface,
        }  # fmt: skip

    @abstractmethod
    def begin(self) -> None:
        """Start what computes, in the event loop."""

    @abstractmethod
    async def end(self) -> None:
        """Finish what is asked already, then stop what computes."""

    @abstractmethod
    def waiting(self) -> int:
        """Requests in the queue."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether requests are taken and answered."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What GET /v1/model tells besides what all models have."""

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        """The worker and the watcher run while the server does; at the end all that waits is answered and logged."""
        self.begin()
        self.metrics.watch(self.waiting, lambda: self.log.dropped if self.log else 0)
        beside = [self.watch(self.swapped).run()] if self.watch else []
        beside += [self.leave_figures(self.summed)] if self.summed else []
        tasks = [asyncio.create_task(one) for one in beside]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await self.end()
            if self.log:
                await asyncio.to_thread(_closed, self.log)

    def swapped(self, version: int, loaded: bool) -> None:
        """Count a change of the model; called in the event loop right after it."""
        self.metrics.swaps.labels("loaded" if loaded else "failed").inc()
        self.metrics.version.set(self.holder.model.version)

    async def feedback(self, request: Request) -> Response:
        """POST /v1/feedback"""
        body = await read_object(request, self.settings.max_body_kb)
        said: Feedback = validated(Feedback, body)
        correction = None if said.correction is None else self.correction_of(said.correction)
        if self.log is None:
            raise Refusal(503, "no-log", "this server keeps no traffic log", "start it with one: llmops serve CONFIG")
        try:
            if self.summed is not None:
                await self.known(said.id)
            kept = await asyncio.to_thread(
                self.log.feedback, said.id, said.rating, correction, said.by, prose=self.prose
            )
        except UsageError as error:
            raise Refusal(404, "unknown-id", error.mistakes[0].what, error.mistakes[0].do) from None
        if not kept:
            raise Refusal(
                503, "log-full", "the traffic log cannot take it now", "try again in a minute", {"Retry-After": "60"}
            )
        self.metrics.feedback.inc()
        return JSONResponse({"id": said.id, "correction": correction, **self.noted(correction)})

    async def known(self, name: str) -> None:
        """Wait a moment for a request that another worker answered: its log is written a little later."""
        assert self.log is not None
        for _ in range(KNOWN_TRIES):
            if await asyncio.to_thread(self.log.knows, name):
                return
            await asyncio.sleep(KNOWN_S)

    def correction_of(self, told: str | list[str]) -> str:
        """A correction as the log keeps it. Raises Refusal for a list, unless the model gives several labels, and for
        what `check_correction` refuses."""
        if isinstance(told, list):
            what = "correction: a list is for models that give several labels"
            raise Refusal(422, "bad-request", what, "send the one right answer as a text")
        self.check_correction(told)
        return told.strip()

    @abstractmethod
    def check_correction(self, told: str) -> None:
        """Raise Refusal when a correction is too long for this kind of model."""

    def noted(self, correction: str | None) -> dict[str, Any]:
        """What the answer to feedback tells besides its id."""
        return {}

    async def embed(self, request: Request) -> Response:
        """POST /v1/embeddings, of a model that gives none."""
        raise no_embeddings(self.holder.model.predictor.manifest.task)

    async def model(self, request: Request) -> Response:
        """GET /v1/model"""
        model = self.holder.model
        manifest = model.predictor.manifest
        return JSONResponse({
            "version": model.version, "task": manifest.task, "runtime": manifest.runtime, **self.about(),
            "metrics": manifest.metrics, "lineage": manifest.lineage,
            "max_text_chars": self.settings.max_text_chars, "keeps_log": self.log is not None,
        })  # fmt: skip

    async def live(self, request: Request) -> Response:
        """GET /livez: the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /readyz: predictions are taken."""
        if not self.alive():
            raise Refusal(503, "not-ready", "the server takes no predictions", "send them to another one")
        return JSONResponse({"ready": True, "version": self.holder.model.version})

    async def interface(self, request: Request) -> Response:
        """GET /openapi.json"""
        return JSONResponse(await asyncio.to_thread(document, self))

    async def figures(self, request: Request) -> Response:
        """GET /metrics"""
        text = self.metrics.text()
        if self.summed is not None:
            text = await asyncio.to_thread(self.summed.all, text)
        return Response(text, media_type=self.metrics.content_type)

    async def leave_figures(self, summed: Summed) -> None:
        """Leave this worker's figures where the others find them, on and on."""
        while True:
            await asyncio.to_thread(summed.leave, self.metrics.text())
            await asyncio.sleep(EVERY_S)


def queue_full(waiting: int) -> Refusal:
    """The refusal of a request for which the queue has no place."""
    what = f"{waiting} requests are waiting already"
    return Refusal(429, "queue-full", what, "wait a second and try again", {"Retry-After": "1"})


def stopping() -> Refusal:
    """The refusal of a request that comes while the server stops."""
    return Refusal(503, "stopping", "the server is stopping", "try again in a moment", {"Retry-After": "1"})


def broken() -> Refusal:
    """The refusal when the server or its model made a mistake."""
    what, do = "the server made a mistake", "look into its log; your request may be sent again"
    return Refusal(500, "bug", what, do)


async def unless_hung_up(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; None when the client hung up first, and then `work` is cancelled."""
    gone = asyncio.ensure_future(_hung_up(request))
    working = asyncio.ensure_future(work)
    try:
        waits: set[asyncio.Future[Any]] = {gone, working}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _closed(log: TrafficLog) -> None:
    try:
        log.close()
    except LlmopsError as error:
        logger.error("; ".join(error.mistakes[0].lines()))
