"""What each address of a server takes and gives, told from the classes that check requests and make answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.core.plugins import load
from llmops.core.protocols import Conversing, Embedder
from llmops.serving import embeddings
from llmops.serving.wire import Feedback

if TYPE_CHECKING:
    from llmops.serving.service import Service

Schema = dict[str, Any]
JSON = "application/json"
OBJECT: Schema = {"type": "object"}


@dataclass(frozen=True)
class Operation:
    """One address: `body` and `gives` are classes, or JSON schemas where there is no class; `media` is how the answer
    is sent. A body has an `example`; `more` are fields that it may hold beside those of its class."""

    summary: str
    gives: Any = None
    body: Any = None
    example: Any = None
    media: tuple[str, ...] = (JSON,)
    more: Mapping[str, Schema] | None = None
    openai: bool = False
    """Whether errors have OpenAI's shape."""


@dataclass(frozen=True)
class Predicted:
    """What `/v1/predict` takes and gives, in parts that `openapi.py` puts together."""

    one: str | None
    many: str
    most: int
    request: Any
    response: Any


def operations(service: Service) -> dict[str, dict[str, Operation]]:
    """The operations of a server by address and method, pages left out."""
    told: dict[str, dict[str, Operation]] = {}
    for method, paths in (("post", service.posts), ("get", service.gets)):
        for path in paths:
            operation = TOLD[path](service)
            if operation is not None:
                told.setdefault(path.replace(":path", ""), {})[method] = operation
    return told


def _predict(service: Service) -> Operation:
    codec, settings = service.holder.model.predictor.codec, service.settings
    schema = getattr(codec, "schema", None)
    parts = Predicted(
        codec.one, codec.many, min(settings.max_texts, settings.queue),
        codec.Request if schema is None else schema(), codec.Response,
    )  # fmt: skip
    return Operation("Ask the model: one thing, or several in one call", parts, parts, codec.sample.plain())


def _explain(service: Service) -> Operation:
    codec = service.holder.model.predictor.codec
    gives = {**OBJECT, "description": "The likeliest label, and by how much each part of the text makes it likelier."}
    return Operation("Which words of a text its answer hangs on", gives, codec.Request, codec.sample.plain())


def _feedback(service: Service) -> Operation:
    right: Any = ["all", "that", "are right"] if getattr(service, "several", False) else "what is right"
    example = {"id": "the id that came with the answer", "rating": -1, "correction": right}
    return Operation("Say whether an answer was right, and what is", OBJECT, Feedback, example)


def _embeddings(service: Service) -> Operation | None:
    if not isinstance(service.holder.model.predictor.codec, Embedder):
        return None
    return Operation(
        "Vectors of texts, as OpenAI's clients ask for them", embeddings.EmbeddingsAnswer, embeddings.EmbeddingsBody,
        {"input": ["Where is my parcel?"]}, more=_harmless(), openai=True,
    )  # fmt: skip


def _chat(service: Service) -> Operation:
    """Of a model that writes, or of one that finds its answers."""
    if not isinstance(service.holder.model.predictor.codec, Conversing):
        return _openai("Write the next message of a conversation", "openaibody:ChatBody", CHAT)(service)
    return _openai("Answer the last message of a conversation", "chatbody:FoundChatBody", CHAT)(service)


def _openai(summary: str, body: str, example: Any) -> Callable[[Service], Operation]:
    def told(service: Service) -> Operation:
        kind: type = load(f"llmops.serving.{body}")
        gives = {**OBJECT, "description": "As OpenAI answers; with `stream: true` as server-sent events."}
        media = (JSON, "text/event-stream")
        return Operation(summary, gives, kind, example, media, _harmless(), openai=True)

    return told


def _harmless() -> dict[str, Schema]:
    """The fields that OpenAI's clients may send and that change nothing."""
    from llmops.serving.openairefusal import HARMLESS

    return {name: {"description": "May be sent, and is not looked at."} for name in sorted(HARMLESS)}


def _get(summary: str, gives: Any = OBJECT, media: str = JSON, openai: bool = False) -> Callable[[Service], Operation]:
    return lambda service: Operation(summary, gives, media=(media,), openai=openai)


CHAT = {"messages": [{"role": "user", "content": "Where is my parcel?"}]}
TOLD: Mapping[str, Callable[[Service], Operation | None]] = {
    "/v1/predict": _predict,
    "/v1/explain": _explain,
    "/v1/chat/completions": _chat,
    "/v1/completions": _openai("Go on from a text", "openaibody:CompletionBody", {"prompt": "Once upon a time"}),
    "/v1/embeddings": _embeddings,
    "/v1/feedback": _feedback,
    "/v1/model": _get("What is served: version, labels or fields, limits, metrics"),
    "/v1/models": _get("The one model, as OpenAI lists them", openai=True),
    "/v1/models/{name:path}": _get("The model of that name", openai=True),
    "/livez": _get("Whether the process answers"),
    "/readyz": _get("Whether requests are taken"),
    "/metrics": _get("Figures for Prometheus", {"type": "string"}, "text/plain"),
    "/openapi.json": _get("This description"),
}
"""By address; None for one that this model has no use for."""
