"""ChatService: what PredictService does, and /v1/chat/completions besides, for models that find their answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from llmops.core.protocols import Cited, Conversing, Reply
from llmops.records.traffic import TrafficLog
from llmops.serving.chatbody import Question, read_question
from llmops.serving.config import ServeSection
from llmops.serving.metrics import ChatMetrics
from llmops.serving.modelcards import MODELS, card, listed, named
from llmops.serving.oneshot import PredictService
from llmops.serving.openaianswer import DONE, Shape, event, usage
from llmops.serving.service import HUNG_UP, Endpoint, unless_hung_up
from llmops.serving.swap import Holder, Watcher
from llmops.serving.wire import read_object
from llmops.serving.writing import CHAT, EVENTS


class ChatService(PredictService):
    """A batcher before a one-shot model whose answers may be a chat's messages."""

    speaks_openai = (CHAT, MODELS, *PredictService.speaks_openai)
    metrics: ChatMetrics

    def __init__(
        self,
        holder: Holder,
        settings: ServeSection,
        log: TrafficLog | None,
        watch: Callable[[Callable[[int, bool], None]], Watcher] | None = None,
        name: str = "model",
    ) -> None:
        """`name` is what the model is called where a request names none."""
        super().__init__(holder, settings, log, watch, ChatMetrics())
        self.name = name

    @property
    def posts(self) -> dict[str, Endpoint]:
        """The chat, /v1/predict and what all servers take."""
        return {CHAT: self.chat, **super().posts}

    @property
    def gets(self) -> dict[str, Endpoint]:
        """The list of models, and what all servers tell."""
        return {MODELS: self.models, f"{MODELS}/{{name:path}}": self.one_model, **super().gets}

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        started = time.perf_counter()
        plain = await read_object(request, self.settings.max_body_kb)
        question = read_question(plain, self.settings.max_text_chars)
        codec: Any = self.holder.model.predictor.codec
        answers = await unless_hung_up(request, self._settled(self._submit([codec.turn(question.turns)], codec.cells)))
        if answers is None:
            return Response(status_code=HUNG_UP)
        (reply, version), took_ms = answers[0], (time.perf_counter() - started) * 1000
        shape = Shape.fresh(True, question.model or self.name, version)
        said = self._logged(reply.asked, reply.answer, version, took_ms, shape.id)
        found = {name: value for name, value in said.items() if name not in ("id", "version")}
        message = _Message(shape, question, reply, found, codec)
        if question.stream:
            return StreamingResponse(message.events(), media_type="text/event-stream", headers=EVENTS)
        return JSONResponse(message.whole())

    def _logged(self, asked: Any, response: Any, version: int, took_ms: float, name: str = "") -> dict[str, Any]:
        """As for all one-shot models; what became of the generator's words is counted."""
        said = super()._logged(asked, response, version, took_ms, name)
        if self.holder.model.predictor.settings.get("phrase") and asked.phrase and not response.abstained:
            result = "given" if response.phrased else "refused" if response.checked else "missing"
            self.metrics.wordings.labels(result).inc()
        return said

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the one that is served."""
        return JSONResponse(listed(card(self.name)))

    async def one_model(self, request: Request) -> Response:
        """GET /v1/models/NAME"""
        return JSONResponse(named(card(self.name), request.path_params["name"]))

    def about(self) -> dict[str, Any]:
        """As for all one-shot models, and what the chat's model is called."""
        return {**super().about(), "name": self.name, "chats": True}


class _Message:
    """A reply in OpenAI's shape: beside its words stand `annotations`, the sources as OpenAI tells them, and `found`,
    the answer as /v1/predict tells it."""

    def __init__(
        self, shape: Shape, question: Question, reply: Reply, found: dict[str, Any], codec: Conversing
    ) -> None:
        self.shape, self.question = shape, question
        ends = codec.ends(reply.words)
        written = min(len(ends), question.limit or len(ends))
        cut = written < len(ends)
        self.words, self.finish = (reply.words[: ends[written - 1]], "length") if cut else (reply.words, "stop")
        self.counts = usage(len(codec.ends(reply.asked.text)), written)
        cited = [_cited(one) for one in reply.sources if one.end <= len(self.words)]
        self.beside = {"annotations": cited, "found": found}

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        choice = self.shape.choice(0, self.words, (), self.finish, None)
        choice["message"] |= self.beside
        return self.shape.whole([choice], self.counts)

    async def events(self) -> AsyncIterator[bytes]:
        """The answer as a stream: its opening, all its words, what stands beside them with the end, and the usage."""
        counted = self.question.include_usage
        yield event(self.shape.first(0, counted))
        yield event(self.shape.part(0, self.words, None, None, counted))
        last = self.shape.part(0, "", self.finish, None, counted)
        last["choices"][0]["delta"] |= self.beside
        yield event(last)
        if counted:
            yield event(self.shape.counts(self.counts))
        yield DONE


def _cited(one: Cited) -> dict[str, Any]:
    cited = {"url": one.source, "title": one.source, "start_index": one.start, "end_index": one.end}
    return {"type": "url_citation", "url_citation": cited}
