"""Starts the real server on a bundle, as a process of its own, and asks it over HTTP."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from llmops.core.errors import DataError
from llmops.core.machine import environment
from llmops.serving.config import ServeSection

START_S = 120.0
STOP_S = 40.0
CALL_S = 60.0
TEXTS = 32
"""Texts that a task may send in one call, whatever the settings say."""
TAIL_LINES = 15


class BundleServer:
    """The server process on one bundle, at a free port of the loopback address; a context manager. What a task sees of
    it is `protocols.Server`."""

    host = "127.0.0.1"

    def __init__(self, bundle: Path, settings: ServeSection, work: Path) -> None:
        """`work` gets its port, its stderr and its traffic log, which is written as in production.

        The limits on sizes are lifted, since every test row must get its answer.
        """
        self.bundle, self.work = bundle, work
        lifted = {
            "host": self.host, "port": 0, "max_text_chars": 10**9, "max_body_kb": 1_000_000,
            "max_texts": max(settings.max_texts, TEXTS), "queue": max(settings.queue, TEXTS),
            "key_env": None, "log_requests": False, "workers": 1,
        }  # fmt: skip
        self.settings = settings.model_copy(update=lifted)
        self.port = 0
        self._lines = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._errors = work / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BundleServer:
        """Returns when it is ready. Raises DataError with the end of its stderr when it does not come up."""
        port_file = self.work / "port"
        port_file.unlink(missing_ok=True)
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command(port_file), stdin=subprocess.PIPE, stdout=errors, stderr=errors, env=environment()
            )
        try:
            self._wait(port_file)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when that is not enough."""
        for connection in self._open:
            connection.close()
        if self._process is None:
            return
        self._process.terminate()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def failure(self, what: str) -> DataError:
        """An error with the end of the server's stderr."""
        lines = self._errors.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return DataError(
            what, str(self.bundle), "mend what its last words say", "\n".join(lines) or "(it said nothing)"
        )

    def _command(self, port_file: Path) -> list[str]:
        settings = self.settings.model_dump_json(include=set(ServeSection.model_fields))
        return [
            sys.executable, "-P", "-m", "llmops.serving", "--bundle", str(self.bundle), "--port-file", str(port_file),
            "--traffic", str(self.work / "traffic.db"), "--settings", settings, "--until-stdin-closes",
        ]  # fmt: skip

    def _wait(self, port_file: Path) -> None:
        end = time.monotonic() + START_S
        while not (port_file.exists() and self._ready(int(port_file.read_text()))):
            assert self._process is not None
            if (code := self._process.poll()) is not None:
                raise self.failure(f"the server did not come up: it ended with exit code {code}")
            if time.monotonic() > end:
                raise self.failure(f"the server did not come up within {START_S:.0f} s")
            time.sleep(0.02)

    def _ready(self, port: int) -> bool:
        self.port = port
        with closing(http.client.HTTPConnection(self.host, port, timeout=5)) as connection:
            try:
                return call(connection, "GET", "/readyz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

    def post(self, path: str, body: Any) -> Any:
        """The JSON of a 200 answer, over a connection that each thread keeps. Raises DataError, with the end of the
        server's stderr, for anything else."""
        connection = self._connection()
        try:
            try:
                status, said = call(connection, "POST", path, body)
            except ConnectionError:  # the server closes a connection on which nothing was said for a while
                connection.close()
                status, said = call(connection, "POST", path, body)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self.failure(f"the server broke off: {error!r}") from error
        if status != 200:
            raise self.failure(f"the server answered {status} to a held-out row: {reason(said)}")
        return said

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._lines, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=CALL_S)
            self._lines.connection = connection
            self._open.append(connection)
        return connection


def reason(said: Any) -> str:
    """An error body in words: llmops' own, or one of the shape that OpenAI's clients know."""
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        return str(said)
    return f"{error['what']} ({error.get('do')})" if "what" in error else str(error.get("message", error))


def call(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, JSON) of one call."""
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())
