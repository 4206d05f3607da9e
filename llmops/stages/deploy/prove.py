"""Starts the real server on a bundle, as a process of its own, and queries it over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import llmops
from llmops.core.errors import DataError
from llmops.serving.config import ServeSection

START_S = 120.0
STOP_S = 40.0
CALL_S = 60.0
SAMPLE = 200
"""Rows sent one by one, for latency."""
WARM_UP = 10
"""Calls before the clock counts."""
BATCH = 32
TAIL_LINES = 15


@dataclass(frozen=True)
class Answers:
    """The server's response to each row, in their order; `latency_ms` of those sent one by one, by row."""

    responses: list[dict[str, Any]]
    latency_ms: dict[int, float]


class BundleServer:
    """The server process on one bundle, at a free port of the loopback address; a context manager."""

    def __init__(self, bundle: Path, settings: ServeSection, work: Path) -> None:
        """`work` gets its port, its stderr and its traffic log, which is written as in production.

        The limits on sizes are lifted, since every test row must get its answer.
        """
        self.bundle, self.work = bundle, work
        lifted = {"host": "127.0.0.1", "port": 0, "max_text_chars": 10**9, "max_body_kb": 1_000_000}
        self.settings = settings.model_copy(update=lifted)
        self.port = 0
        self._errors = work / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BundleServer:
        """Returns when it is ready. Raises DataError with the end of its stderr when it does not come up."""
        port_file = self.work / "port"
        port_file.unlink(missing_ok=True)
        # The very code that runs here, also from a checkout that is not installed.
        paths = [str(Path(llmops.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command(port_file), stdin=subprocess.PIPE, stdout=errors, stderr=errors, env=environment
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
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            try:
                return call(connection, "GET", "/readyz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

    def ask(self, rows: Sequence[str], one: str, many: str, told: Callable[[int], None]) -> Answers:
        """Send every row: an even sample of up to 200 one by one, the rest in batches.

        `one` and `many` are the codec's names in a request's body; `told` hears how many are answered.
        Raises DataError when an answer is not 200.
        """
        sample = even_sample(len(rows), SAMPLE)
        rest = sorted(set(range(len(rows))).difference(sample))
        responses: dict[int, Any] = {}
        latency_ms: dict[int, float] = {}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_S)) as connection:
            for place in sample[:WARM_UP]:
                self._answer(connection, {one: rows[place]})
            for place in sample:
                started = time.perf_counter()
                responses[place] = self._answer(connection, {one: rows[place]})
                latency_ms[place] = (time.perf_counter() - started) * 1000
            size = min(BATCH, self.settings.max_texts, self.settings.queue)
            for start in range(0, len(rest), size):
                told(len(responses))
                places = rest[start : start + size]
                said = self._answer(connection, {many: [rows[place] for place in places]})["results"]
                responses.update(zip(places, said, strict=True))
        told(len(rows))
        return Answers([responses[place] for place in range(len(rows))], latency_ms)

    def _answer(self, connection: http.client.HTTPConnection, body: Any) -> Any:
        try:
            status, said = call(connection, "POST", "/v1/predict", body)
        except (OSError, http.client.HTTPException) as error:
            raise self.failure(f"the server broke off: {error!r}") from error
        if status != 200:
            why = said["error"]
            raise self.failure(f"the server answered {status} to a row of the test set: {why['what']} ({why['do']})")
        return said


def call(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, JSON) of one call."""
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def even_sample(total: int, most: int) -> list[int]:
    """At most `most` places of `total`, evenly spread."""
    count = min(total, most)
    return [index * total // count for index in range(count)]
