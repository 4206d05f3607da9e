"""serving: a real server on a stand-in bundle; every address, every refusal, the log, the stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops.core.errors import DataError, MachineError
from llmops.serving.config import ServeSection
from llmops.serving.server import bind
from llmops.serving.server import serve_champion as serve_champion_here
from tests import standin
from tests.standin import Caller

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def port(home: Path) -> Iterator[int]:
    bundle = standin.make_bundle(home / "bundle")
    limits = {"max_texts": 4, "max_text_chars": 100, "max_body_kb": 2}
    with standin.serve_bundle(bundle, home / "traffic.db", **limits) as (_, port):
        yield port


@pytest.fixture
def call(port: int) -> Caller:
    return Caller(port)


def rows(path: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_answers_one(call: Caller) -> None:
    said = call.text("Where is my PARCEL?")
    assert (said["label"], said["best"], said["abstained"], said["version"]) == ("parcel", "parcel", False, 0)
    assert said["probability"] > 0.9
    assert [other["label"] for other in said["alternatives"]] == ["card", "refund"]


def test_abstains_but_names_the_best_guess(call: Caller) -> None:
    said = call.text("the weather is nice")
    assert said["abstained"]
    assert said["label"] is None
    assert said["best"] in standin.LABELS


def test_answers_many_in_their_order(call: Caller) -> None:
    status, said = call("POST", "/v1/predict", {"texts": ["my card", "a much longer text about a refund", "parcel"]})
    assert status == 200
    assert [result["label"] for result in said["results"]] == ["card", "refund", "parcel"]
    assert len({result["id"] for result in said["results"]}) == 3


BAD = [
    ("not JSON", b"{text: 1}", "application/json", 400, "bad-json"),
    ("not UTF-8", b'{"text": "\xff\xfe"}', "application/json", 400, "bad-json"),
    ("empty body", b"", "application/json", 400, "bad-json"),
    ("nested deeply", b"[" * 1990, "application/json", 400, "bad-json"),
    ("a form", b"text=hello", "application/x-www-form-urlencoded", 415, "not-json"),
    ("no content type", b'{"text": "x"}', None, 415, "not-json"),
    ("a list", b"[1]", "application/json", 422, "not-an-object"),
    ("nothing asked", b"{}", "application/json", 422, "bad-request"),
    ("a number", b'{"text": 5}', "application/json", 422, "bad-request"),
    ("null", b'{"text": null}', "application/json", 422, "bad-request"),
    ("empty", b'{"text": ""}', "application/json", 422, "bad-request"),
    ("blank", b'{"text": " \\n\\t"}', "application/json", 422, "bad-request"),
    ("a wrong name", b'{"txet": "x"}', "application/json", 422, "bad-request"),
    ("a name of half a surrogate pair", b'{"\\ud800": "x"}', "application/json", 422, "bad-request"),
    ("one and many", b'{"text": "x", "texts": ["x"]}', "application/json", 422, "bad-request"),
    ("an empty list", b'{"texts": []}', "application/json", 422, "bad-request"),
    ("texts that are a text", b'{"texts": "x"}', "application/json", 422, "bad-request"),
    ("a number among texts", b'{"texts": ["x", 5]}', "application/json", 422, "bad-request"),
    ("too many", b'{"texts": ["x", "x", "x", "x", "x"]}', "application/json", 413, "too-many"),
    ("too long", json.dumps({"text": "x" * 101}).encode(), "application/json", 413, "text-too-long"),
    ("too large", b'{"text": "' + b"x" * 2000 + b'"}', "application/json", 413, "body-too-large"),
]


@pytest.mark.parametrize(("name", "body", "kind", "status", "code"), BAD, ids=[case[0] for case in BAD])
def test_refuses(call: Caller, name: str, body: bytes, kind: str | None, status: int, code: str) -> None:
    got, _, said = call.raw("POST", "/v1/predict", body, kind)
    error = json.loads(said)["error"]
    assert (got, error["code"]) == (status, code)
    assert error["what"]
    assert error["do"]
    assert "Traceback" not in error["what"]
    assert call.text("card")["label"] == "card"


def test_names_the_place_of_the_bad_text(call: Caller) -> None:
    _, said = call("POST", "/v1/predict", {"texts": ["fine", ""]})
    assert "texts[1]" in said["error"]["what"]


def test_a_body_without_length_is_limited_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n" + b" " * 0x1000 + b"\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_half_a_surrogate_pair_is_answered(call: Caller) -> None:
    status, _, body = call.raw("POST", "/v1/predict", b'{"text": "card \\ud800"}')
    assert status == 200, body


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/nowhere", 404), ("GET", "/v1/predict", 405), ("DELETE", "/v1/model", 405),
    ("GET", "/../../etc/passwd", 404), ("GET", "/page/../app.py", 404),
])  # fmt: skip
def test_wrong_addresses_and_methods(call: Caller, method: str, path: str, status: int) -> None:
    got, said = call(method, path)
    assert got == status
    assert said["error"]["do"]


def test_feedback(call: Caller, home: Path) -> None:
    answer = call.text("the parcel came broken")
    wrong = {"id": answer["id"], "rating": -1, "correction": " damaged ", "by": "kim"}
    assert call("POST", "/v1/feedback", wrong) == (
        200,
        {"id": answer["id"], "correction": "damaged", "new_label": True},
    )
    known = {"id": answer["id"], "correction": "refund"}
    assert call("POST", "/v1/feedback", known)[1]["new_label"] is False
    said = f"SELECT rating, correction, by FROM feedback WHERE request_id = '{answer['id']}' ORDER BY rowid"
    standin.wait_until(lambda: len(rows(home / "traffic.db", said)) == 2, 5)
    assert rows(home / "traffic.db", said) == [(-1, "damaged", "kim"), (None, "refund", None)]


@pytest.mark.parametrize(("body", "status"), [
    ({"id": "b7c9c3d6-0000-4000-8000-000000000000", "rating": 1}, 404), ({"id": "?", "rating": 1}, 404),
    ({"rating": 1}, 422), ({"id": "x"}, 422), ({"id": "x", "rating": 5}, 422), ({"id": "x", "rating": True}, 422),
    ({"id": "x", "rating": 1.0}, 422), ({"id": "x", "correction": "  "}, 422),
    ({"id": "x", "correction": "y" * 201}, 422), ({"id": 7, "rating": 1}, 422),
])  # fmt: skip
def test_bad_feedback(call: Caller, body: dict, status: int) -> None:
    got, said = call("POST", "/v1/feedback", body)
    assert got == status
    assert said["error"]["do"]


def test_the_log_holds_what_was_answered_redacted(call: Caller, home: Path) -> None:
    answer = call.text("refund to kim@example.com")
    sql = f"SELECT request, response, label, abstained, version, source FROM requests WHERE id = '{answer['id']}'"
    standin.wait_until(lambda: rows(home / "traffic.db", sql), 5)
    [(request, response, label, abstained, version, source)] = rows(home / "traffic.db", sql)
    assert json.loads(request) == {"text": "refund to <email>"}
    assert (label, abstained, version, source) == ("refund", 0, 0, "http")
    assert json.loads(response)["best"] == "refund"


def test_model_health_and_metrics(call: Caller) -> None:
    model = call("GET", "/v1/model")[1]
    assert (model["labels"], model["version"], model["metrics"]) == (standin.LABELS, 0, {"valid": {"accuracy": 0.9}})
    assert call("GET", "/livez") == (200, {"live": True})
    assert call("GET", "/readyz")[0] == 200
    before = figures(call)
    call.text("card")
    call.text("who knows")
    call("GET", "/wp-admin.php")
    after = figures(call)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('llmops_requests_total{code="200",path="/v1/predict"}') == 2
    assert grown('llmops_requests_total{code="404",path="other"}') == 1
    assert grown("llmops_abstentions_total") == 1
    assert grown('llmops_latency_seconds_count{path="/v1/predict"}') == 2
    assert grown("llmops_batch_size_sum") == 2
    assert after["llmops_queue_depth"] == 0
    assert after["llmops_model_version"] == 0


def figures(call: Caller) -> dict[str, float]:
    status, headers, body = call.raw("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_page_comes_with_a_strict_policy_and_nothing_from_elsewhere(call: Caller) -> None:
    for path in ("/", "/several.js", "/page.js", "/base.js", "/shared.js", "/page.css", "/icon.svg"):
        status, headers, body = call.raw("GET", path)
        assert status == 200
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in body
        assert b"innerHTML" not in body


def test_a_pipelining_client_gets_all_its_answers(port: int) -> None:
    request = HEAD + b'Content-Length: 16\r\n\r\n{"text": "card"}'
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(request * 3)
        got = b""
        while got.count(b'"label":"card"') < 3:
            block = raw.recv(65536)
            assert block, got
            got += block
        assert got.count(b"HTTP/1.1 200") == 3


def test_sigterm_answers_what_is_in_flight_and_flushes_the_log(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", slow=3)
    got: list[tuple[int, str]] = []
    with standin.serve_bundle(bundle, tmp_path / "traffic.db", max_batch=1) as (process, port):

        def ask() -> None:
            status, said = Caller(port)("POST", "/v1/predict", {"text": "card"})
            got.append((status, said["id"]))

        clients = [threading.Thread(target=ask) for _ in range(12)]
        for client in clients:
            client.start()
        call = Caller(port)
        standin.wait_until(lambda: figures(call)["llmops_queue_depth"] >= 8, 10)
        process.terminate()
        for client in clients:
            client.join()
        assert process.wait(20) == -signal.SIGTERM
    assert [status for status, _ in got] == [200] * 12
    assert {row[0] for row in rows(tmp_path / "traffic.db", "SELECT id FROM requests")} == {name for _, name in got}


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(MachineError, match="is taken") as caught:
            bind("127.0.0.1", other.getsockname()[1])
    assert "deploy.port" in caught.value.mistakes[0].do
    assert caught.value.exit_code == 5


def test_an_address_of_another_machine() -> None:
    with pytest.raises(MachineError):
        bind("192.0.2.1", 0)
    with pytest.raises(MachineError):
        bind("no such host", 0)


def test_no_champion(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no champion") as caught:
        serve_champion_here("demo", standin.places(tmp_path), ServeSection(port=0), print)
    assert caught.value.exit_code == 4


def test_a_damaged_bundle_ends_with_4_and_says_what(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    (bundle / "model.onnx").write_bytes(b"")
    command = [sys.executable, "-m", "llmops.serving", "--bundle", str(bundle), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=standin.HERE)
    assert done.returncode == 4
    assert "model.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_never_loads_torch(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    script = """
import os, sys, threading, json, http.client, time
from pathlib import Path
from llmops.serving.config import ServeSection
from llmops.serving.server import serve_bundle
heavy = {"torch", "transformers", "datasets", "sklearn", "scipy", "pandas", "optuna", "matplotlib"}
def client():
    port = Path(sys.argv[2])
    while not port.exists(): time.sleep(0.02)
    time.sleep(0.2)
    call = http.client.HTTPConnection("127.0.0.1", int(port.read_text()), timeout=20)
    call.request("POST", "/v1/predict", json.dumps({"text": "card"}), {"Content-Type": "application/json"})
    answered = call.getresponse().status
    print(answered, sorted(heavy & set(sys.modules)), flush=True)
    os._exit(0)
threading.Thread(target=client).start()
serve_bundle(Path(sys.argv[1]), ServeSection(port=0), lambda line: None, Path(sys.argv[3]), Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", script, str(bundle), str(tmp_path / "port"), str(tmp_path / "t.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=standin.HERE)
    assert done.stdout.strip() == "200 []", done.stderr


def test_sixty_requests_from_sixteen_clients_all_right_and_all_logged(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    with standin.serve_bundle(bundle, tmp_path / "traffic.db") as (process, port):
        outcome = standin.load(port, requests=64, clients=16)
        process.terminate()
        process.wait(20)
    assert outcome.right == 64
    assert {row[0] for row in rows(tmp_path / "traffic.db", "SELECT id FROM requests")} == outcome.ids


@pytest.mark.prove
def test_five_hundred_requests_from_64_clients_at_default_limits(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", slow=1)
    with standin.serve_bundle(bundle, tmp_path / "traffic.db", threads=0) as (process, port):
        outcome = standin.load(port, requests=500, clients=64)
        process.terminate()
        process.wait(20)
    assert outcome.right >= 475
    assert outcome.right + outcome.refused == 500
    assert {row[0] for row in rows(tmp_path / "traffic.db", "SELECT id FROM requests")} == outcome.ids


def test_kill_9_loses_at_most_the_last_50_ms_of_the_log(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    answered: list[tuple[float, str]] = []
    with standin.serve_bundle(bundle, tmp_path / "traffic.db") as (process, port):

        def ask() -> None:
            call = Caller(port)
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    answered.append((time.monotonic(), call.text("card")["id"]))

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(0.7)
        killed_at = time.monotonic()
        process.kill()
        for client in clients:
            client.join()
    kept = {row[0] for row in rows(tmp_path / "traffic.db", "SELECT id FROM requests")}
    lost = [killed_at - at for at, name in answered if name not in kept]
    assert len(answered) > 50
    assert max(lost, default=0.0) < 0.1  # 50 ms, and as much again for the scheduler of a busy machine
    with standin.serve_bundle(bundle, tmp_path / "traffic.db") as (_, port):
        known = {"id": next(iter(kept)), "rating": 1}
        assert Caller(port)("POST", "/v1/feedback", known)[0] == 200
