"""serving: the key, the names of requests, other origins, the lines about requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import standin, webdriver

KEY = "a-key-of-42"
ASK = {"text": "my card"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("DESK_KEY", KEY)
    bundle = standin.make_bundle(tmp_path / "bundle")
    more: dict[str, Any] = {"key_env": "DESK_KEY", "allow_origins": ["https://shop.example"], "log_requests": True}
    serving = standin.serve_bundle(bundle, tmp_path / "traffic.db", **more)
    with serving as (_, port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as asking:
        yield asking


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_the_key_nothing_is_told_but_health_figures_and_the_pages_files(client: httpx.Client) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/", "/base.js", "/docs"):
        assert client.get(path).status_code == 200, path
    for headers in ({}, bearer("wrong"), {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}):
        asked = [client.get(path, headers=headers) for path in ("/v1/model", "/openapi.json", "/nothing")]
        for answer in (*asked, client.post("/v1/predict", json=ASK, headers=headers)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    refused = client.post("/v1/embeddings", json={"input": "x"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_request_error")
    assert client.post("/v1/predict", json=ASK, headers=bearer(KEY)).status_code == 200
    assert client.post("/v1/predict", json=ASK, headers={"Authorization": f"bearer  {KEY}"}).status_code == 200


def test_requests_have_names(client: httpx.Client) -> None:
    ours = client.get("/livez", headers={"X-Request-ID": "ticket-7:a.b"})
    assert ours.headers["x-request-id"] == "ticket-7:a.b"
    odd = ["", "x" * 129, "two words", "ä".encode(), "a;b"]
    names = [client.get("/livez", headers={"X-Request-ID": one}).headers["x-request-id"] for one in odd]
    assert len(set(names)) == len(odd) and not set(names) & {one for one in odd if isinstance(one, str)}
    assert client.post("/v1/predict", json=ASK).headers["x-request-id"], "a refusal has one too"


def test_other_origins_come_in_where_they_are_named(client: httpx.Client) -> None:
    def may(origin: str) -> str | None:
        asks = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        allowed: str | None = client.options("/v1/predict", headers=asks).headers.get("access-control-allow-origin")
        return allowed

    assert (may("https://shop.example"), may("https://evil.example")) == ("https://shop.example", None)
    answer = client.post("/v1/predict", json=ASK, headers=bearer(KEY) | {"Origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_no_other_origin_by_default(tmp_path: Path) -> None:
    with standin.serve_bundle(standin.make_bundle(tmp_path / "bundle")) as (_, port):
        asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        answer = httpx.options(f"http://127.0.0.1:{port}/v1/predict", headers=asks)
        assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers


def test_each_request_is_a_line_of_json_without_a_word_or_the_key(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    settings = json.dumps({"threads": 1, "key_env": "DESK_KEY", "log_requests": True})
    command = [sys.executable, "-m", "llmops.serving", "--bundle", str(bundle), "--port", "0", "--settings", settings]
    command += ["--port-file", str(tmp_path / "port"), "--traffic", str(tmp_path / "traffic.db")]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, "DESK_KEY": KEY})
    try:
        standin.wait_until(lambda: (tmp_path / "port").exists(), 30, process)
        port = int((tmp_path / "port").read_text())
        standin.wait_until(lambda: standin.is_ready(port), 30, process)
        address = f"http://127.0.0.1:{port}/v1/predict"
        httpx.post(address, json={"text": "my secret card"}, headers=bearer(KEY) | {"X-Request-ID": "first"})
        httpx.post(address, json={"text": "my secret card"}, headers={"X-Request-ID": "second"})
    finally:
        process.terminate()
        process.wait(20)
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    seen = {line["id"]: line for line in lines}
    assert (seen["first"]["status"], seen["second"]["status"]) == (200, 401)
    assert seen["first"] | {"at": 0, "ms": 0} == {
        "at": 0, "id": "first", "method": "POST", "path": "/v1/predict", "status": 200, "ms": 0,
    }  # fmt: skip
    assert "secret" not in text and KEY not in text
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("traffic.db*"))


def test_a_key_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    command = [sys.executable, "-m", "llmops.serving", "--bundle", str(bundle), "--port", "0"]
    done = subprocess.run(
        [*command, "--settings", '{"key_env": "NO_SUCH_KEY"}'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 5
    assert "the environment has no NO_SUCH_KEY" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing()))
def test_the_page_asks_for_the_key_and_uses_it(client: httpx.Client, tmp_path: Path) -> None:
    with webdriver.browser(tmp_path) as page:
        page.open(f"{client.base_url}/base.js")
        page.run(f"sessionStorage.setItem('llmops-key', '{KEY}')")
        page.open(f"{client.base_url}/")
        page.wait("#about", "labels")
        assert not [told for told in page.complaints() if "favicon" not in told]
