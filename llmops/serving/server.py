"""Starts the server: a port, a model, a traffic log, uvicorn. Returns when it was told to stop and all is answered."""

from __future__ import annotations

import errno
import logging
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from llmops.bundle import format as bundle_format
from llmops.core.artifact import write_whole
from llmops.core.errors import DataError, MachineError
from llmops.core.protocols import Conversing, Places
from llmops.core.threads import cores
from llmops.records.traffic import TrafficLog
from llmops.registry import store
from llmops.serving.app import make_app
from llmops.serving.config import ServeSection
from llmops.serving.connection import Connection
from llmops.serving.door import key_of
from llmops.serving.foundchat import ChatService
from llmops.serving.oneshot import PredictService
from llmops.serving.service import Service
from llmops.serving.summed import Summed
from llmops.serving.swap import Holder, Watcher, load
from llmops.serving.workers import spread
from llmops.serving.writing import WritingService

GRACE_S = 30
"""Seconds that requests in flight have when the server is told to stop."""

Say = Callable[[str], None]
Watch = Callable[[Callable[[int, bool], None]], Watcher]


def serve_champion(project: str, places: Places, settings: ServeSection, say: Say) -> None:
    """Serve the project's champion, and each new one from the moment it is promoted, until SIGINT or SIGTERM.

    Raises DataError when there is no champion, MachineError when the port cannot be had.
    """
    with bind(settings.host, settings.port) as listener:
        found = store.champion(places.registry)
        if found is None:
            raise DataError(
                f"{project} has no champion yet", str(places.registry),
                "make one: llmops run CONFIG; or serve the bundle of a run: llmops serve CONFIG --run ID",
            )  # fmt: skip
        checked(found[1], settings)

        def work(number: int, settings: ServeSection, summed: Summed | None) -> None:
            champion = store.champion(places.registry)
            assert champion is not None, "it was there a moment ago"
            holder = Holder(load(*champion, settings))
            watch = partial(Watcher, places.registry, holder, settings)
            log = open_log(places.traffic / "traffic.db", settings)
            service = make_service(holder, settings, log, watch, project)
            if number == 0:
                say(f"{project} version {champion[0]} answers on {address(listener)}  (Ctrl+C stops)")
            run(service, listener, summed)

        shared(settings, work)


def serve_bundle(
    bundle: Path, settings: ServeSection, say: Say, traffic: Path | None = None, port_file: Path | None = None
) -> None:
    """Serve the bundle in a folder until SIGINT or SIGTERM; its answers carry version 0.

    `traffic` is the database of the log (None: nothing is kept); `port_file` gets the port's number.
    Raises DataError for a bad bundle, MachineError when the port cannot be had.
    """
    with bind(settings.host, settings.port) as listener:
        checked(bundle, settings)

        def work(number: int, settings: ServeSection, summed: Summed | None) -> None:
            holder = Holder(load(0, bundle, settings))
            service = make_service(holder, settings, open_log(traffic, settings) if traffic else None)
            if number == 0:
                if port_file is not None:
                    write_whole(port_file, f"{listener.getsockname()[1]}\n")
                say(f"the bundle {bundle} answers on {address(listener)}  (Ctrl+C stops)")
            run(service, listener, summed)

        shared(settings, work)


def checked(bundle: Path, settings: ServeSection) -> None:
    """Find out before there are several workers what each of them would say."""
    if settings.workers > 1:
        bundle_format.read(bundle)
        key_of(settings)


def shared(settings: ServeSection, work: Callable[[int, ServeSection, Summed | None], None]) -> None:
    """Do `work` in as many processes as the settings say, which share the cores."""
    if settings.workers == 1:
        work(0, settings, None)
        return
    each = settings.threads or max(1, cores() // settings.workers)
    settings = settings.model_copy(update={"threads": each})
    with tempfile.TemporaryDirectory(prefix="llmops-serve-") as folder:
        spread(settings.workers, lambda number: work(number, settings, Summed(Path(folder), number)))


def make_service(
    holder: Holder, settings: ServeSection, log: TrafficLog | None, watch: Watch | None = None, name: str = ""
) -> Service:
    """The service for the kind of model that `holder` holds. `name` is what OpenAI's clients are told the model is
    called; default the task's name."""
    name = name or holder.model.predictor.manifest.task
    if holder.model.writes:
        return WritingService(holder, settings, log, watch, name)
    if isinstance(holder.model.predictor.codec, Conversing):
        return ChatService(holder, settings, log, watch, name)
    return PredictService(holder, settings, log, watch)


def run(service: Service, listener: socket.socket, summed: Summed | None = None) -> None:
    """Answer on a bound socket until told to stop, then answer what is in flight and close the log. `summed` adds up
    the figures of several workers."""
    service.summed = summed
    if service.settings.log_requests:
        note_requests()
    uvicorn.Server(configured(service)).run(sockets=[listener])


def note_requests() -> None:
    """Send the lines about requests to stderr as they are."""
    noted = logging.getLogger("llmops.requests")
    if not noted.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        noted.addHandler(handler)
        noted.setLevel(logging.INFO)
        noted.propagate = False


def configured(service: Service) -> uvicorn.Config:
    """How uvicorn serves: with our deadlines, and without what it would say of itself."""
    connection: Any = partial(Connection, service.settings, service.metrics)
    idle: Any = service.settings.idle_timeout_s  # uvicorn says int and takes any number
    return uvicorn.Config(
        make_app(service), http=connection, ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE_S, timeout_keep_alive=idle,
    )  # fmt: skip


def open_log(path: Path, settings: ServeSection) -> TrafficLog:
    """The traffic log with the server's settings."""
    return TrafficLog(path, settings.keep_traffic_days, settings.log_text, settings.redact_log)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, taken before the model is loaded. Raises MachineError with what to do."""
    try:
        family, kind, number, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise MachineError(
            f"the address {host} is none of this machine's: {error}", "deploy.host", "try 127.0.0.1"
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(place)
    except OSError as error:
        listener.close()
        raise MachineError(*_no_port(host, port, error)) from error
    return listener


def _no_port(host: str, port: int, error: OSError) -> tuple[str, str, str]:
    where = f"deploy.host, deploy.port: {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        do = "stop the other program, or take another port: --set deploy.port=8081 (0 takes a free one)"
        return f"port {port} is taken", where, do
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than you have", where, "take a port above 1023: --set deploy.port=8080"
    return f"the server cannot listen there: {error.strerror}", where, "try --set deploy.host=127.0.0.1"


def address(listener: socket.socket) -> str:
    """The socket's address as one would type it into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
