"""The HTTP face: which address does what. Every answer is JSON, but the page, streams and /metrics."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from llmops.serving.door import WITHOUT_KEY, Door, key_of
from llmops.serving.guard import Guard
from llmops.serving.service import HUNG_UP, PAGE, Service, broken
from llmops.serving.wire import Refusal, http_refusal

INTERFACE = {"/docs": "api.html", "/api.js": "api.js", "/api.css": "api.css"}
"""The page of /openapi.json, which all servers have."""


def make_app(service: Service) -> Guard:
    """The ASGI application: the addresses, behind the door that asks for a key, and the guard that counts requests and
    sets the headers of safety. Raises MachineError when the key is not there."""
    posts, gets, pages = service.posts, service.gets, {**service.pages, **INTERFACE}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
    routes += [Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()]
    routes += [Route(path, partial(_page, PAGE / name), methods=["GET"]) for path, name in pages.items()]
    refused = partial(_refused, service.speaks_openai)
    handlers: Any = {
        Refusal: refused,
        HTTPException: partial(_http, set(posts), refused),
        ClientDisconnect: _gone,
        Exception: partial(_broken, refused),
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=service.life)
    settings = service.settings
    door = Door(app, settings, key_of(settings), {*WITHOUT_KEY, *pages}, service.speaks_openai)
    return Guard(door, service.metrics, {*posts, *gets, *pages})


async def _page(path: Path, request: Request) -> Response:
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


async def _refused(openai: tuple[str, ...], request: Request, error: Refusal) -> Response:
    return error.openai() if request.url.path.startswith(openai) else error.response()


async def _http(posts: set[str], refused: Any, request: Request, error: HTTPException) -> Response:
    refusal = http_refusal(error, ["POST"] if request.url.path in posts else ["GET", "HEAD"])
    return await refused(request, refusal)  # type: ignore[no-any-return]


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=HUNG_UP)


async def _broken(refused: Any, request: Request, error: Exception) -> Response:
    return await refused(request, broken())  # type: ignore[no-any-return]
