"""A tiny answering bundle that chats, and a generator on the loopback address, for tests."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests import tiny_answering
from tests.test_answering import World

CHAT = "/v1/chat/completions"
ASKED = "where is my parcel, has the courier shipped it in a van"
ENTRY = tiny_answering.entry("delivery")
STRANGE = "money screen voucher shoe"
"""Words of many topics: no entry fits."""
UNKNOWN = "No idea. Ask our team."
Say = Callable[[str], str]


def make(world: World) -> Path:
    """A bundle that answers ASKED and does not know STRANGE."""
    opened = world.bundle(world.folder / "bundle", slope=10.0, intercept=-5.4, threshold=0.5)
    return changed(opened.folder, world.folder / "chatting", chat={"unknown": UNKNOWN})


def changed(bundle: Path, folder: Path, **settings: Any) -> Path:
    """A copy of a bundle with other settings."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["settings"] |= settings
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def user(*turns: str) -> list[Any]:
    """The messages of a chat in which every turn of the user's was answered somehow."""
    messages = [
        {"role": role, "content": text} for turn in turns for role, text in (("user", turn), ("assistant", "-"))
    ]
    return messages[:-1]


@contextmanager
def generator(say: Say) -> Iterator[str]:
    """An OpenAI-compatible address that makes of an entry what `say` does."""

    class Generator(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            entry = body["messages"][-1]["content"].removeprefix("Entry:\n").partition("\n\nQuestion:\n")[0]
            data = json.dumps({"choices": [{"message": {"content": say(entry)}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Generator)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def true(entry: str) -> str:
    return f"Good to know: {entry}"


def false(entry: str) -> str:
    return f"{entry} It takes 14 days."
