"""WritingService: /v1/chat/completions and /v1/completions, as OpenAI's clients expect them, for models that write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from llmops.records.traffic import TrafficLog
from llmops.serving.answers import Answers
from llmops.serving.batcher import Closing, QueueFull
from llmops.serving.config import ServeSection
from llmops.serving.forms import CannotHold
from llmops.serving.metrics import WritingMetrics
from llmops.serving.modelcards import MODELS, Card, card, listed, named
from llmops.serving.openaianswer import DONE, Shape, event
from llmops.serving.openaibody import Wish, read_chat, read_completion
from llmops.serving.openairefusal import refused
from llmops.serving.prompting import Desk, ask_for, make_forms, not_held, read_prompt
from llmops.serving.scheduler import Scheduler
from llmops.serving.service import HUNG_UP, Endpoint, Service, broken, queue_full, stopping, unless_hung_up
from llmops.serving.swap import Holder, Watcher, give_back_memory
from llmops.serving.wire import Refusal, read_object

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EVENTS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers of a stream: nothing between here and the client may hold it back."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Events(StreamingResponse):
    """A stream of server-sent events; `ended` is called however it ends, a client that hangs up among the ways."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(events, headers=EVENTS)
        self.ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended()


class WritingService(Service):
    """A scheduler before a model that writes."""

    pages = {
        "/": "chat.html", "/base.js": "base.js", "/chat.js": "chat.js", "/chat.css": "chat.css",
        "/page.css": "page.css", "/icon.svg": "icon.svg",
    }  # fmt: skip
    prose = True
    speaks_openai = (CHAT, COMPLETIONS, MODELS, *Service.speaks_openai)
    metrics: WritingMetrics

    def __init__(
        self,
        holder: Holder,
        settings: ServeSection,
        log: TrafficLog | None,
        watch: Callable[[Callable[[int, bool], None]], Watcher] | None = None,
        name: str = "model",
    ) -> None:
        """`name` is what the model is called where a request names none."""
        super().__init__(holder, settings, log, WritingMetrics(), watch)
        self.name = name
        self.desk: Desk
        self._leaving: set[asyncio.Task[None]] = set()
        # One thread reads prompts and one compiles the forms of answers, so that a long prompt or a large schema holds
        # up neither the event loop nor the model.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="forms")

    @property
    def posts(self) -> dict[str, Endpoint]:
        """OpenAI's addresses and what all servers take."""
        return {CHAT: self.chat, COMPLETIONS: self.complete, **super().posts}

    @property
    def gets(self) -> dict[str, Endpoint]:
        """The list of models, and what all servers tell."""
        return {MODELS: self.models, f"{MODELS}/{{name:path}}": self.one_model, **super().gets}

    def begin(self) -> None:
        """Start the scheduler of the model that is there."""
        self.desk = self._desk()
        self.metrics.slots.set(self.settings.slots)
        self.metrics.active.set_function(lambda: self.desk.scheduler.active())

    def _desk(self) -> Desk:
        predictor = self.holder.model.predictor
        scheduler = Scheduler(predictor.runtime, predictor.codec, self.settings.queue, self.metrics)
        return Desk(self.holder.model, scheduler)

    async def end(self) -> None:
        """Finish what runs, on the old models too."""
        await self.desk.scheduler.close()
        await asyncio.gather(*self._leaving)
        self._reader.shutdown()
        self._compiler.shutdown()

    def swapped(self, version: int, loaded: bool) -> None:
        """New requests go to the new model; the old one finishes what it began."""
        super().swapped(version, loaded)
        if loaded:
            old, self.desk = self.desk, self._desk()
            leaving = asyncio.create_task(self._retire(old.scheduler))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _retire(self, scheduler: Scheduler) -> None:
        await scheduler.close()
        await asyncio.to_thread(give_back_memory)

    def waiting(self) -> int:
        """Requests in the scheduler's queue."""
        return self.desk.scheduler.waiting()

    def alive(self) -> bool:
        """Whether the scheduler works."""
        return self.desk.scheduler.alive()

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        return await self._answer(request, read_chat(await read_object(request, self.settings.max_body_kb)))

    async def complete(self, request: Request) -> Response:
        """POST /v1/completions"""
        return await self._answer(request, read_completion(await read_object(request, self.settings.max_body_kb)))

    async def _answer(self, request: Request, wish: Wish) -> Response:
        answers = await unless_hung_up(request, _told(self._begun(wish)))
        if answers is None:
            return Response(status_code=HUNG_UP)
        if wish.stream:
            return Events(self._events(answers), lambda: self._over(answers))
        whole = await unless_hung_up(request, _told(_collected(answers)))
        if whole is None:
            return Response(status_code=HUNG_UP)
        self._log(answers)
        return JSONResponse(whole)

    async def _begun(self, wish: Wish) -> Answers:
        """The prompt read, its probabilities told if asked for, the answers in the queue. Raises Refusal."""
        if wish.count > self.settings.queue:
            do = f"ask for at most {self.settings.queue}"
            raise refused(f"`n` is {wish.count}, more than may wait at this server", do, "n")
        while True:
            desk = self.desk
            prompt = await read_prompt(desk, wish, self._reader)
            asks = ask_for(wish, prompt, desk, await make_forms(desk, wish, self._compiler))
            shape = Shape.fresh(wish.messages is not None, wish.model or self.name, desk.model.version)
            try:
                scored = wish.top is not None and wish.echo
                echoed = await desk.scheduler.score(prompt, wish.top or 0) if scored else None
                streams = desk.scheduler.submit_all(asks) if asks[0].max_tokens else []
                return Answers(wish, desk, shape, prompt, streams, echoed)
            except QueueFull:
                raise queue_full(desk.scheduler.waiting()) from None
            except Closing:
                if desk is self.desk:
                    raise stopping() from None  # else a new champion took over while the prompt was read

    async def _events(self, answers: Answers) -> AsyncIterator[bytes]:
        """The stream's bytes. A mistake of the model becomes an event, since the status is sent already."""
        try:
            async for told in answers.events():
                if answers.complete:
                    self._log(answers)  # before the client knows that it may speak about it
                yield told
        except Exception as error:
            answers.failed()
            yield event({"error": _refusal(error, answers.wish).openai_error()})
            return
        yield DONE

    def _over(self, answers: Answers) -> None:
        """A stream ended: its slots are free, and what a client that hung up has seen is in the log."""
        answers.leave()
        if answers.cancelled():
            self._log(answers)

    def _log(self, answers: Answers) -> None:
        """Note the answers to a request; a prompt that was only scored has none."""
        if not answers.streams or answers.logged:
            return
        answers.logged = True
        self.metrics.answers.inc(len(answers.each))
        if self.log is None:
            return
        self.log.record(
            answers.shape.id, version=answers.desk.model.version, request=answers.request(),
            response=answers.response(), label=None, probability=None, abstained=False,
            latency_ms=(time.perf_counter() - answers.started) * 1000, prose=True,
        )  # fmt: skip

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the one that is served."""
        return JSONResponse(listed(self._card()))

    async def one_model(self, request: Request) -> Response:
        """GET /v1/models/NAME"""
        return JSONResponse(named(self._card(), request.path_params["name"]))

    def _card(self) -> Card:
        return card(self.name, max_model_len=self.desk.scheduler.context)

    def check_correction(self, told: str) -> None:
        """A right answer may be as long as texts may be."""
        limit = self.settings.max_text_chars
        if len(told) > limit:
            what = f"correction: it has {len(told):,} characters"
            raise Refusal(413, "text-too-long", what, f"send at most {limit:,} characters")

    def about(self) -> dict[str, Any]:
        """How it writes, and what one request may hold."""
        scheduler = self.desk.scheduler
        return {
            "name": self.name, "chats": self.desk.codec.chats, "context": scheduler.context,
            "generation": self.desk.defaults, "slots": scheduler.stepper.slots,
        }  # fmt: skip


async def _collected(answers: Answers) -> dict[str, Any]:
    """The whole response; left early, it gives its slots back."""
    try:
        return await answers.whole()
    except CannotHold as error:
        raise not_held(error, answers.wish) from None
    finally:
        answers.leave()


async def _told(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; a mistake of the model as a refusal that keeps the client's connection open."""
    try:
        return await work
    except Refusal:
        raise
    except Exception:
        logger.exception("an answer broke off")
        raise broken() from None


def _refusal(error: Exception, wish: Wish) -> Refusal:
    """What a client is told whose stream broke off."""
    if isinstance(error, CannotHold):
        return not_held(error, wish)
    logger.error("an answer broke off", exc_info=error)
    return broken()
