"""PredictService: /v1/predict, for models that answer a request with one run of the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llmops.core.protocols import Embedder, Occluding
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import BadCell
from llmops.fields.labelsets import labels_of, labels_text
from llmops.records.traffic import TrafficLog, new_id
from llmops.serving.batcher import Batcher, Closing, QueueFull, Ticket
from llmops.serving.config import ServeSection
from llmops.serving.embeddings import answer as embeddings
from llmops.serving.embeddings import no_embeddings, read_embeddings
from llmops.serving.metrics import Metrics
from llmops.serving.service import HUNG_UP, Endpoint, Service, queue_full, stopping, unless_hung_up
from llmops.serving.swap import Holder, Watcher
from llmops.serving.wire import Refusal, how, parse_requests, read_json, read_object

LABEL_CHARS = 200
"""Longest correction: a label."""
SHARED = ("base.js", "shared.js", "page.css", "icon.svg")
FILES = {False: (*SHARED, "several.js", "page.js"), True: (*SHARED, "controls.js", "table.js", "table.css")}
"""The files of the page for texts, and of the one for tables."""


class PredictService(Service):
    """A batcher before a one-shot model."""

    prose = False

    def __init__(
        self,
        holder: Holder,
        settings: ServeSection,
        log: TrafficLog | None,
        watch: Callable[[Callable[[int, bool], None]], Watcher] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(holder, settings, log, metrics or Metrics(), watch)
        tables = holder.model.predictor.codec.one is None
        self.pages = {"/": "table.html" if tables else "index.html", **{f"/{name}": name for name in FILES[tables]}}
        self.batcher: Batcher

    @property
    def posts(self) -> dict[str, Endpoint]:
        """/v1/predict and what all servers take."""
        explaining = {"/v1/explain": self.explain} if self.explains else {}
        return {"/v1/predict": self.predict, **explaining, **super().posts}

    def begin(self) -> None:
        """Start the batcher."""
        settings = self.settings
        self.batcher = Batcher(
            lambda: self.holder.model, settings.max_batch, settings.max_wait_ms / 1000, settings.queue,
            self.metrics.batch.observe, settings.batch_target_ms / 1000,
        )  # fmt: skip

    async def end(self) -> None:
        """Answer what waits, then stop the batcher."""
        await self.batcher.close()

    def waiting(self) -> int:
        """Requests in the batcher's queue."""
        return self.batcher.waiting()

    def alive(self) -> bool:
        """Whether the batcher works."""
        return self.batcher.alive()

    async def predict(self, request: Request) -> Response:
        """POST /v1/predict"""
        started = time.perf_counter()
        codec = self.holder.model.predictor.codec
        body = await read_json(request, self.settings.max_body_kb, how(codec))
        asked, many = parse_requests(body, codec, self.settings)
        tickets = self._submit(asked, codec.cells)
        answers = await unless_hung_up(request, self._settled(tickets))
        if answers is None:
            return Response(status_code=HUNG_UP)
        took_ms = (time.perf_counter() - started) * 1000
        said = [
            self._logged(one, answer, version, took_ms) for one, (answer, version) in zip(asked, answers, strict=True)
        ]
        return JSONResponse({"version": answers[0][1], "results": said} if many else said[0])

    async def explain(self, request: Request) -> Response:
        """POST /v1/explain: which words of one text its answer hangs on; nothing of it is logged."""
        codec = self.holder.model.predictor.codec
        body = await read_json(request, self.settings.max_body_kb, how(codec))
        asked, many = parse_requests(body, codec, self.settings)
        if many:
            raise Refusal(422, "bad-request", f"`{codec.many}` are explained one by one", f"send `{codec.one}`")
        if not isinstance(codec, Occluding):
            raise Refusal(404, "no-such-address", "the model has no such answers any more", "ask /v1/predict")
        spans, requests = codec.occluded(asked[0])
        answers = await unless_hung_up(request, self._at_once(requests))
        if answers is None:
            return Response(status_code=HUNG_UP)
        weights = codec.mattered([answer for answer, _ in answers])
        text = asked[0].text
        told = [{"start": start, "end": end, "text": text[start:end], "weight": weight}
                for (start, end), weight in zip(spans, weights, strict=True)]  # fmt: skip
        said = {"version": answers[0][1], "best": answers[0][0].best, "probability": answers[0][0].probability}
        return JSONResponse({**said, "parts": told})

    async def embed(self, request: Request) -> Response:
        """POST /v1/embeddings"""
        model = self.holder.model
        codec, task = model.predictor.codec, model.predictor.manifest.task
        if not isinstance(codec, Embedder):
            raise no_embeddings(task)
        plain = await read_object(request, self.settings.max_body_kb)
        body = read_embeddings(plain, codec.width, self.settings.max_text_chars)
        found = await unless_hung_up(request, self._at_once([codec.embedding(text) for text in body.input]))
        if found is None:
            return Response(status_code=HUNG_UP)
        vectors = [vector for vector, _ in found]
        name = plain.get("model")
        said = await asyncio.to_thread(embeddings, body, vectors, name if isinstance(name, str) else task)
        return JSONResponse(said.plain())

    async def _at_once(self, asked: list[Any]) -> list[tuple[Any, int]]:
        """Responses with their version, as many at a time as the queue takes in one call, all by one version."""
        while True:
            found: list[tuple[Any, int]] = []
            for start in range(0, len(asked), self.most):
                some = self._submit(asked[start : start + self.most], self.holder.model.predictor.codec.cells)
                found += await self._settled(some)
            if len({version for _, version in found}) == 1:
                return found

    def _submit(self, asked: list[Any], size: Callable[[Any], int]) -> list[Ticket]:
        try:
            return self.batcher.submit(asked, size)
        except QueueFull:
            raise queue_full(self.batcher.waiting()) from None
        except Closing:
            raise stopping() from None

    async def _settled(self, tickets: Sequence[Ticket]) -> list[Any]:
        """The answers; cancelled, it frees their places."""
        try:
            return await asyncio.gather(*(ticket.answer for ticket in tickets))
        except asyncio.CancelledError:
            self.batcher.withdraw(tickets)
            raise

    def _logged(self, asked: Any, response: Any, version: int, took_ms: float, name: str = "") -> dict[str, Any]:
        """One answer as it goes out, noted in the traffic log; by default its id is a fresh one."""
        plain = response.plain()
        said = {"id": name or new_id(), "version": version, **plain}
        self.metrics.answers.inc()
        if response.abstained:
            self.metrics.abstentions.inc()
        if self.log:
            self.log.record(
                said["id"], version=version, request=asked.plain(), response=plain, label=response.best,
                probability=response.probability, abstained=response.abstained, latency_ms=took_ms,
                prose=self.holder.model.predictor.codec.one is None,
            )  # fmt: skip
        return said

    @property
    def most(self) -> int:
        """Requests in one call at most."""
        return min(self.settings.max_texts, self.settings.queue)

    @property
    def labels(self) -> list[str] | None:
        """The model's classes; None for one that finds answers or predicts a number."""
        return self.holder.model.predictor.settings.get("labels")

    @property
    def numbers(self) -> bool:
        """Whether the model predicts a number."""
        return bool(self.holder.model.predictor.settings.get("predict") == "number")

    @property
    def explains(self) -> bool:
        """Whether answers hang on parts of a text that can be left out."""
        return isinstance(self.holder.model.predictor.codec, Occluding)

    @property
    def several(self) -> bool:
        """Whether an answer has any number of labels."""
        return bool(self.holder.model.predictor.settings.get("several"))

    def correction_of(self, told: str | list[str]) -> str:
        """Of a model that gives several labels, all that are right as one text; a text is one label, or such a list. No
        label holds what separates labels in the data."""
        if not self.several:
            return super().correction_of(told)
        separator = self.holder.model.predictor.settings.get("separator")
        labels = labels_of(told, separator)
        if separator is not None:
            labels = [part for label in labels for part in label.split(separator)]
        for label in labels:
            self.check_correction(label)
        return labels_text(labels)

    def check_correction(self, told: str) -> None:
        """A label is short, a number is one; a right answer may be as long as texts may be."""
        limit = self.settings.max_text_chars if self.labels is None and not self.numbers else LABEL_CHARS
        if self.labels is not None and not self.numbers and not told.strip().isprintable():
            raise Refusal(422, "bad-request", "correction: a label holds a control character", "send it without")
        if len(told) > limit:
            what = f"correction: it has {len(told):,} characters"
            raise Refusal(422, "bad-request", what, f"send at most {limit:,} characters")
        if self.numbers:
            try:
                kind_of(FieldSection(kind="number")).read(told)
            except BadCell as error:
                what = f"correction: {error}"
                raise Refusal(422, "bad-request", what, "send the number that came true") from None

    def noted(self, correction: str | None) -> dict[str, Any]:
        """Whether the model does not know the label, or one of them, yet."""
        labels = self.labels
        if labels is None:
            return {}
        if correction is None or not self.several:
            return {"new_label": correction is not None and correction not in labels}
        told = labels_of(correction)
        return {"correction": told, "new_label": not set(told) <= set(labels)}

    def about(self) -> dict[str, Any]:
        """What requests are called or made of, the labels, and the limits of a call."""
        predictor = self.holder.model.predictor
        told, schema = predictor.settings, getattr(predictor.codec, "schema", None)
        return {
            "one": predictor.codec.one, "many": predictor.codec.many, "labels": told.get("labels"),
            "several": self.several, "explains": self.explains, "threshold": told.get("threshold"),
            "max_tokens": told.get("max_tokens"),
            "max_texts": self.most,
            **({} if schema is None else {"schema": schema(), "predicts": "number" if self.numbers else "class"}),
        }  # fmt: skip
