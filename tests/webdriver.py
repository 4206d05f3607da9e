"""A real Chromium, driven over the WebDriver protocol (W3C) that chromedriver speaks; no package needed."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def missing() -> str | None:
    """Why there is no browser to drive, or None."""
    found = shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))
    return None if found else "needs chromium and chromedriver: apt-get install chromium chromium-driver"


class Browser:
    """One session."""

    def __init__(self, port: int, profile: Path) -> None:
        self.port, self.base = port, ""
        binary = shutil.which("chromium") or shutil.which("google-chrome")
        options = {"binary": binary, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        logs = {"browser": "ALL"}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}
        self.base = f"/session/{self.send('POST', '/session', capabilities=capabilities)['sessionId']}"

    def send(self, method: str, path: str, **body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, self.base + path, json.dumps(body) if method == "POST" else None)
        said = json.loads(connection.getresponse().read())["value"]
        connection.close()
        assert not (isinstance(said, dict) and "error" in said), said
        return said

    def open(self, url: str) -> None:
        self.send("POST", "/url", url=url)

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self.send("POST", "/execute/sync", script=script, args=[])

    def find(self, css: str) -> str:
        found = self.send("POST", "/element", using="css selector", value=css)
        return str(found[ELEMENT])

    def click(self, css: str) -> None:
        self.send("POST", f"/element/{self.find(css)}/click")

    def press(self, keys: str) -> None:
        """Keys to whatever has the focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.send("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": strokes}])

    def text(self, css: str) -> str:
        """The text that can be seen."""
        return str(self.send("GET", f"/element/{self.find(css)}/text"))

    def wait(self, css: str, words: str, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while words not in self.text(css):
            assert time.monotonic() < end, f"{css} says {self.text(css)!r}, not {words!r}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the console said: errors, broken policies."""
        return [entry["message"] for entry in self.send("POST", "/se/log", type="browser")]

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("GET", "/screenshot")))


def answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["chromedriver", f"--port={port}"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not answers(port):
            assert time.monotonic() < end, "chromedriver did not come up"
            time.sleep(0.05)
        one = Browser(port, folder / "profile")
        try:
            yield one
        finally:
            one.send("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
