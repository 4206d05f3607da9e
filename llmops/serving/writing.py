"""WritingService: /v1/chat/completions and /v1/completions, as OpenAI's clients expect them, for models that write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from llmops.core.protocols import WritingCodec
from llmops.records.traffic import TrafficLog
from llmops.serving.batcher import Closing, QueueFull
from llmops.serving.config import ServeSection
from llmops.serving.logprobs import Named
from llmops.serving.metrics import WritingMetrics
from llmops.serving.openaianswer import DONE, LegacyLogprobs, Shape, event, usage
from llmops.serving.openaibody import Wish, read_chat, read_completion, refused
from llmops.serving.scheduler import Ask, Scheduler, Stream
from llmops.serving.service import HUNG_UP, Endpoint, Service, broken, queue_full, stopping, unless_hung_up
from llmops.serving.swap import Holder, Loaded, Watcher, give_back_memory
from llmops.serving.wire import Feedback, Refusal, read_object

CHAT, COMPLETIONS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
SHORT = 16
"""Tokens of a completion that names no limit: OpenAI's default. A chat's is the model's own."""
EVENTS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers of a stream: nothing between here and the client may hold it back."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """A model with the scheduler that drives it."""

    model: Loaded
    scheduler: Scheduler

    @property
    def codec(self) -> WritingCodec:
        """The model's codec."""
        codec: WritingCodec = self.model.predictor.codec
        return codec

    @property
    def defaults(self) -> dict[str, Any]:
        """How the model writes when a request does not say otherwise."""
        return dict(self.model.predictor.settings.get("generation", {}))


@dataclass
class Writing:
    """One answer on its way to its client, and what the traffic log will say of it."""

    wish: Wish
    desk: Desk
    shape: Shape
    prompt: list[int]
    stream: Stream | None = None
    """None when nothing is to be written: the prompt is only echoed."""
    echoed: list[Named] | None = None
    """Probabilities of the prompt's tokens but the first, when they were asked for."""
    texts: list[str] = field(default_factory=list)
    written: int = 0
    finish: str | None = None
    legacy: LegacyLogprobs | None = None
    logged: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def prompt_text(self) -> str:
        """What a completion goes on from, as text."""
        prompt = self.wish.prompt
        return prompt if isinstance(prompt, str) else self.desk.codec.text(self.prompt)

    @property
    def counts(self) -> dict[str, int]:
        """Tokens read and written."""
        return usage(len(self.prompt), self.written)

    def opening(self) -> tuple[str, Any]:
        """What the answer begins with before the model writes: the echo, with its probabilities."""
        if not self.wish.echo:
            return "", None
        first = self.prompt[0] if self.wish.top is not None else None
        said = None if self.legacy is None else self.legacy.add(self.echoed or (), first)
        return self.prompt_text, said

    async def pieces(self) -> AsyncIterator[tuple[str, Any, str | None]]:
        """(text, logprobs, finish) as they come, the opening first. Left early, it gives its slot back."""
        if self.stream is None:
            self.finish = "length"
        text, said = self.opening()
        if text or said or self.finish:
            yield text, said, self.finish
        if self.stream is None:
            return
        async for piece in self.stream:
            self.texts.append(piece.text)
            self.written, self.finish = piece.written, piece.finish
            tokens = None if self.wish.top is None else self.shape.logprobs(piece.tokens, self.legacy)
            yield piece.text, tokens, piece.finish

    async def collected(self) -> tuple[str, Any]:
        """The whole text and all its log probabilities."""
        texts, said = [], []
        try:
            async for text, logprobs, _ in self.pieces():
                texts.append(text)
                said += [logprobs] if logprobs else []
            return "".join(texts), _merged(said)
        finally:
            self.leave()

    def leave(self) -> None:
        """Give the slot back; nothing happens when the answer is complete."""
        if self.stream is not None and self.finish is None:
            self.desk.scheduler.cancel(self.stream)


def _merged(said: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The lists of all pieces, one after the other."""
    if not said:
        return None
    return {
        name: [one for part in said for one in part[name]] if isinstance(value, list) else value
        for name, value in said[0].items()
    }


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
    speaks_openai = (CHAT, COMPLETIONS, MODELS)
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
        # One thread reads prompts, so that a long one holds up neither the event loop nor the model.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prompts")

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
        writing = await unless_hung_up(request, _told(self._begun(wish)))
        if writing is None:
            return Response(status_code=HUNG_UP)
        if wish.stream:
            return Events(self._events(writing), lambda: self._over(writing))
        whole = await unless_hung_up(request, _told(writing.collected()))
        if whole is None:
            return Response(status_code=HUNG_UP)
        self._log(writing)
        return JSONResponse(writing.shape.whole(whole[0], writing.finish or "length", whole[1], writing.counts))

    async def _begun(self, wish: Wish) -> Writing:
        """The prompt read, its probabilities told if asked for, the answer in the queue. Raises Refusal."""
        while True:
            desk = self.desk
            prompt = await self._read_prompt(desk, wish)
            ask = _ask(wish, prompt, desk)
            shape = Shape.fresh(wish.messages is not None, wish.model or self.name, desk.model.version, desk.codec)
            legacy = LegacyLogprobs(desk.codec) if wish.top is not None and not shape.chat else None
            writing = Writing(wish, desk, shape, prompt, legacy=legacy)
            try:
                if legacy is not None and wish.echo:
                    writing.echoed = await desk.scheduler.score(prompt, wish.top or 0)
                writing.stream = desk.scheduler.submit(ask) if ask.max_tokens else None
                return writing
            except QueueFull:
                raise queue_full(desk.scheduler.waiting()) from None
            except Closing:
                if desk is self.desk:
                    raise stopping() from None  # else a new champion took over while the prompt was read

    async def _read_prompt(self, desk: Desk, wish: Wish) -> list[int]:
        """The prompt's tokens. Raises Refusal when there are none, or they are none of the model's."""
        codec, loop = desk.codec, asyncio.get_running_loop()
        if wish.messages is not None and not codec.chats:
            do = f"send {{'prompt': ..}} to {COMPLETIONS}"
            raise refused("this model has no chat template: it goes on from a text", do, "messages", "no_chat_template")
        try:
            if wish.messages is not None:
                tokens = await loop.run_in_executor(self._reader, codec.chat, wish.messages)
            elif isinstance(wish.prompt, str):
                tokens = await loop.run_in_executor(self._reader, codec.prompt, wish.prompt)
            else:
                tokens = _known(wish.prompt or [], codec.vocabulary)
        except ValueError as error:
            asked = "prompt" if wish.messages is None else "messages"
            raise refused(f"the model cannot read `{asked}`: {error}", "mend it and send it again", asked) from None
        if not tokens:
            raise refused("the prompt has no tokens", "send some text", "prompt")
        return list(tokens)

    async def _events(self, writing: Writing) -> AsyncIterator[bytes]:
        """The stream's bytes. A mistake of the model becomes an event, since the status is sent already."""
        shape, counted = writing.shape, writing.wish.include_usage
        if first := shape.first(counted):
            yield event(first)
        try:
            async for text, logprobs, finish in writing.pieces():
                if finish:
                    self._log(writing)  # before the client knows that it may speak about it
                if text or logprobs:
                    yield event(shape.part(text, None if shape.chat else finish, logprobs, counted))
                if finish and (shape.chat or not (text or logprobs)):
                    yield event(shape.part("", finish, None, counted))
        except Exception:
            logger.exception("an answer broke off")
            writing.finish = "error"
            yield event({"error": broken().openai_error()})
            return
        if counted:
            yield event(shape.counts(writing.counts))
        yield DONE

    def _over(self, writing: Writing) -> None:
        """A stream ended: its slot is free, and what a client that hung up has seen is in the log."""
        writing.leave()
        if writing.texts and writing.finish is None:
            writing.finish = "cancelled"
            self._log(writing)

    def _log(self, writing: Writing) -> None:
        """Note an answer; a prompt that was only scored is none."""
        if writing.stream is None or writing.logged:
            return
        writing.logged = True
        self.metrics.answers.inc()
        if self.log is None:
            return
        wish, first = writing.wish, writing.stream.first_s
        response = {
            "answer": "".join(writing.texts), "finish_reason": writing.finish, **writing.counts,
            "first_token_ms": None if first is None else round(first * 1000, 1),
        }  # fmt: skip
        self.log.record(
            writing.shape.id, version=writing.desk.model.version,
            request={"prompt": writing.prompt_text} if wish.messages is None else {"messages": wish.messages},
            response=response, label=None, probability=None, abstained=False,
            latency_ms=(time.perf_counter() - writing.started) * 1000, prose=True,
        )  # fmt: skip

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the one that is served."""
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def one_model(self, request: Request) -> Response:
        """GET /v1/models/NAME"""
        name = request.path_params["name"]
        if name != self.name:
            raise Refusal(
                404, "model-not-found", f"there is no model {name!r}", f"there is {self.name!r}", param="model"
            )
        return JSONResponse(self._card())

    def _card(self) -> dict[str, Any]:
        return {
            "id": self.name, "object": "model", "created": 0, "owned_by": "llmops",
            "max_model_len": self.desk.scheduler.context,
        }  # fmt: skip

    def check_feedback(self, said: Feedback) -> None:
        """A right answer may be as long as texts may be."""
        limit = self.settings.max_text_chars
        if said.correction and len(said.correction) > limit:
            what = f"correction: it has {len(said.correction):,} characters"
            raise Refusal(413, "text-too-long", what, f"send at most {limit:,} characters")

    def about(self) -> dict[str, Any]:
        """How it writes, and what one request may hold."""
        scheduler = self.desk.scheduler
        return {
            "name": self.name, "chats": self.desk.codec.chats, "context": scheduler.context,
            "generation": self.desk.defaults, "slots": scheduler.stepper.slots,
        }  # fmt: skip


def _known(tokens: list[int], vocabulary: int) -> list[int]:
    """Tokens of the model. Raises ValueError for any other number."""
    wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise ValueError(f"there is no token {wrong}, they go from 0 to {vocabulary - 1}")
    return tokens


async def _told(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; a mistake of the model as a refusal that keeps the client's connection open."""
    try:
        return await work
    except Refusal:
        raise
    except Exception:
        logger.exception("an answer broke off")
        raise broken() from None


def _ask(wish: Wish, prompt: list[int], desk: Desk) -> Ask:
    """What the scheduler is asked, the model's defaults filled in. Raises Refusal when the prompt leaves no room."""
    defaults, context = desk.defaults, desk.scheduler.context
    usual = defaults.get("max_tokens", context) if wish.messages is not None else SHORT
    limit = usual if wish.max_tokens is None else wish.max_tokens
    room = context - len(prompt)
    if room < (min(limit, 1) if limit else -1):  # scoring reads all but the last token
        asked = "prompt" if wish.messages is None else "messages"
        what = f"the model's context has {context} tokens, and `{asked}` takes {len(prompt)} of them"
        what += "" if len(prompt) > context else ", which leaves none for an answer"
        do = f"shorten it by at least {(min(limit, 1) if limit else -1) - room} tokens"
        raise refused(what, do, asked, "context_length_exceeded")
    temperature = defaults.get("temperature", 1.0) if wish.temperature is None else wish.temperature
    top_p = defaults.get("top_p", 1.0) if wish.top_p is None else wish.top_p
    return Ask(
        prompt,
        max(0, min(limit, room)),
        wish.stop,
        float(temperature),
        float(top_p),
        wish.seed,
        wish.top,
        wish.ignore_end,
    )
