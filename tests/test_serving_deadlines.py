"""serving: connections that send half of something, nothing, or take no answer are closed; those that wait are not."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import standin
from tests.standin import Caller
from tests.standin_writer import Parrot, served

BODY = b'{"text": "card"}'
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
SHORT = {"header_timeout_s": 1.0, "body_timeout_s": 1.0, "idle_timeout_s": 1.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, int]]:
    bundle = standin.make_bundle(tmp_path_factory.mktemp("deadlines") / "bundle")
    with standin.serve_bundle(bundle, **SHORT) as (process, port):
        yield psutil.Process(process.pid), port


@pytest.fixture
def port(server: tuple[psutil.Process, int]) -> int:
    return server[1]


def connected(port: int, sends: bytes = b"") -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    raw.sendall(sends)
    return raw


def to_the_end(raw: socket.socket) -> bytes:
    """All that comes until the server closes; a test that waits in vain fails by the socket's own timeout."""
    got = b""
    with raw:
        while block := raw.recv(65536):
            got += block
    return got


def cut(port: int, why: str) -> float:
    lines = Caller(port).raw("GET", "/metrics")[2].decode().splitlines()
    name = f'llmops_connections_cut_total{{why="{why}"}} '
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def error_in(answer: bytes) -> tuple[bytes, dict]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ", 2)[1], json.loads(body)["error"]


def test_300_half_requests_are_gone_after_the_deadline_and_others_are_answered(
    server: tuple[psutil.Process, int],
) -> None:
    process, port = server
    handles, cut_before = process.num_fds(), cut(port, "slow headers")
    half = [connected(port, HEAD[:50]) for _ in range(300)]
    assert Caller(port).text("my parcel")["label"] == "parcel"
    assert process.num_fds() >= handles + 250, "they are all held, for now"
    for raw in half:
        status, error = error_in(to_the_end(raw))
        assert (status, error["code"]) == (b"408", "too-slow")
        assert "headers" in error["what"] and error["do"]
    standin.wait_until(lambda: process.num_fds() <= handles + 3, 10)
    assert cut(port, "slow headers") == cut_before + 300
    assert Caller(port).text("my card")["label"] == "card"


@pytest.mark.parametrize("sent", [HEAD + BODY[:9], HEAD[:50], b""], ids=["half a body", "half a head", "nothing"])
def test_a_server_that_stops_does_not_wait_for_half_a_request(tmp_path: Path, sent: bytes) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    with standin.serve_bundle(bundle) as (process, port):
        raw = connected(port, sent)
        assert Caller(port)("GET", "/livez")[0] == 200
        process.terminate()
        process.wait(10)  # a request in flight would have thirty seconds
        answer = to_the_end(raw)
        if sent:
            assert error_in(answer)[1]["code"] == "stopping"


def test_half_bodies_are_gone_too(port: int) -> None:
    half = [connected(port, HEAD + BODY[:9]) for _ in range(60)]
    assert Caller(port).text("my parcel")["label"] == "parcel"
    for raw in half:
        status, error = error_in(to_the_end(raw))
        assert (status, error["code"]) == (b"408", "too-slow")
        assert "body" in error["what"]


@pytest.mark.parametrize("start", [b"GET /livez HTTP/1.1\r\nX: ", HEAD.replace(b"16", b"999") + b'{"text": "'])
def test_one_byte_at_a_time_does_not_move_the_deadline(port: int, start: bytes) -> None:
    raw, over = connected(port, start), threading.Event()

    def drip() -> None:
        while not over.wait(0.05):
            try:
                raw.sendall(b"x")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        got = raw.recv(4096)
    finally:
        over.set()
        dripping.join()
        raw.close()
    assert got.startswith(b"HTTP/1.1 408")


def test_a_connection_that_says_nothing_is_closed_without_a_word(port: int) -> None:
    assert to_the_end(connected(port)) == b""


@pytest.mark.parametrize("between", [b"", b"\r\n", b"GET /li"], ids=["silence", "blank lines", "half a request"])
def test_an_idle_connection_is_closed(port: int, between: bytes) -> None:
    raw = connected(port, HEAD + BODY)
    got = b""
    while b'"label":"card"' not in got:
        got += raw.recv(4096)
    raw.sendall(between)
    rest = to_the_end(raw)
    assert rest.startswith(b"HTTP/1.1 408") if between.startswith(b"GET") else b"HTTP/1.1" not in rest


def test_a_connection_stays_for_the_next_request(port: int) -> None:
    call = Caller(port)
    sockets = set()
    for _ in range(3):
        call.text("card")
        sockets.add(call.connection.sock.getsockname())
    assert len(sockets) == 1


def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(port: int) -> None:
    head = HEAD.replace(b"Content-Length: 16", b"Content-Length: 99999999")
    answer = to_the_end(connected(port, head + b"x" * 1000))
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_client_that_takes_no_answer_is_cut(port: int) -> None:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(20)
        raw.connect(("127.0.0.1", port))
        before = cut(port, "takes no answer")
        raw.sendall(b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
        standin.wait_until(lambda: cut(port, "takes no answer") == before + 1, 15)
    assert Caller(port).text("card")["label"] == "card"


def test_headers_without_end_are_refused(port: int) -> None:
    with connected(port, b"GET /livez HTTP/1.1\r\n") as raw:
        line = b"X-Long: " + b"y" * 1000 + b"\r\n"
        for _ in range(60):
            raw.sendall(line)
        raw.settimeout(0.2)
        with pytest.raises(TimeoutError):
            raw.recv(100)  # so much may be
        raw.settimeout(20)
        raw.sendall(line * 10)
        assert raw.recv(100).startswith(b"HTTP/1.1 431")


def test_a_stream_longer_than_all_deadlines_is_whole(tmp_path: Path) -> None:
    short = {"header_timeout_s": 0.2, "body_timeout_s": 0.2, "idle_timeout_s": 0.2}
    ask = {"prompt": "hello", "max_tokens": 40, "stream": True, "temperature": 0, "ignore_eos": True}
    body = json.dumps(ask).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with served(tmp_path, Parrot(pause_s=0.03), **short) as server:
        for more in (b"", b"GET /livez HTTP/1.1\r\nX"):  # half of the next request is no reason to cut this one
            answer = to_the_end(connected(server.port, head % len(body) + body + more))
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.count(b'"text"') >= 40
            assert b"data: [DONE]" in answer
            assert (b"HTTP/1.1 408" in answer) == bool(more)


def test_an_answer_that_takes_longer_than_all_deadlines_comes(tmp_path: Path) -> None:
    short = {"header_timeout_s": 0.2, "body_timeout_s": 0.2, "idle_timeout_s": 0.2}
    with served(tmp_path, Parrot(pause_s=0.03), **short) as server:
        ask = {"prompt": "hello", "max_tokens": 40, "temperature": 0, "ignore_eos": True}
        status, said = Caller(server.port)("POST", "/v1/completions", ask)
        assert (status, said["usage"]["completion_tokens"]) == (200, 40)


def test_connections_over_the_limit_are_refused_until_there_is_room(tmp_path: Path) -> None:
    with standin.serve_bundle(standin.make_bundle(tmp_path / "bundle"), max_connections=8) as (_, port):
        standin.wait_until(lambda: Caller(port)("GET", "/livez")[0] == 200, 5)
        held = [connected(port, HEAD[:20]) for _ in range(8)]
        answer = to_the_end(connected(port))
        status, error = error_in(answer)
        assert (status, error["code"]) == (b"503", "too-many-connections")
        assert "8 connections" in error["what"] and b"retry-after: 1" in answer
        got, said = Caller(port)("POST", "/v1/predict", {"text": "card"})
        assert (got, said["error"]["code"]) == (503, "too-many-connections")
        held.pop().close()
        standin.wait_until(lambda: Caller(port)("GET", "/livez")[0] == 200, 5)
        for raw in held:
            raw.sendall(HEAD[20:] + BODY)
            assert raw.recv(4096).startswith(b"HTTP/1.1 200"), "those within the limit were not touched"
            raw.close()


def test_a_flood_of_connections_is_bounded(tmp_path: Path) -> None:
    with standin.serve_bundle(standin.make_bundle(tmp_path / "bundle"), max_connections=4) as (process, port):
        before = psutil.Process(process.pid).num_fds()
        flood = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(400)]
        for raw in flood[4:]:
            with contextlib.suppress(ConnectionResetError):
                assert to_the_end(raw)[:12] in (b"", b"HTTP/1.1 503")
        assert psutil.Process(process.pid).num_fds() <= before + 4 + 64 + 3
        for raw in flood[:4]:
            raw.close()
        standin.wait_until(lambda: Caller(port)("GET", "/livez")[0] == 200, 5)
