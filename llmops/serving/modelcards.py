"""What GET /v1/models tells OpenAI's clients: the one model that a server has."""

from __future__ import annotations

from typing import Any

from llmops.serving.wire import Refusal

MODELS = "/v1/models"
Card = dict[str, Any]


def card(name: str, **more: Any) -> Card:
    """The model of this name."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "llmops", **more}


def listed(one: Card) -> dict[str, Any]:
    """The list that holds it alone."""
    return {"object": "list", "data": [one]}


def named(one: Card, wanted: str) -> Card:
    """The model if that is its name. Raises Refusal."""
    if wanted != one["id"]:
        raise Refusal(404, "model-not-found", f"there is no model {wanted!r}", f"there is {one['id']!r}", param="model")
    return one
