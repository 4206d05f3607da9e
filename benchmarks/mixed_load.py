"""A server under all that clients do, for minutes: is every request answered or refused as it should be, is the traffic
log complete, does memory stay?

    python benchmarks/mixed_load.py BUNDLE [--minutes 10] [--clients 12] [--workers 2]

BUNDLE is one of text classification. Clients send good texts, several in one call, corrections, bad JSON, wrong types,
huge texts and bodies, bodies in pieces, and hang up; every ten seconds another version becomes champion; half way one
worker is killed. One JSON line last: requests by kind, what was answered otherwise than it should be, p50 and p99 of
good single texts in ms, megabytes of all processes in the second and in the last quarter, answered requests that the
log lacks (a killed worker may lose its last 50 ms). Ends with 1 when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.command import resident_mb
from llmops.bundle import format as bundle_format
from llmops.registry import store

SWAP_S = 10.0
GROWS = 1.1
"""Memory in the last quarter over that in the second, at most."""
LOST = 200
"""Answers that a killed worker may not have logged."""
SERVE = """
import json, sys
from pathlib import Path
from llmops.core.protocols import Places
from llmops.serving.config import ServeSection
from llmops.serving.server import serve_champion
root, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
places = Places(root, root / "runs", root / "registry", root / "traffic")
serve_champion("load", places, ServeSection(**settings), lambda line: print(line, flush=True))
"""
WORDS = (
    "where is my card the refund parcel please cancel order top up exchange rate pin fee charge today why not".split()
)


class Load:
    """What was sent and what came back."""

    def __init__(self, address: str) -> None:
        self.address, self.stop = address, threading.Event()
        self.kinds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.broken = 0
        self.ids: set[str] = set()
        self.took_ms: list[float] = []
        self.lock = threading.Lock()

    def client(self, seed: int) -> None:
        """Send on and on."""
        dice = random.Random(seed)
        with httpx.Client(base_url=self.address, timeout=60) as asking:
            while not self.stop.is_set():
                kind = dice.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
                try:
                    KINDS[kind][1](self, asking, dice)
                except (httpx.TransportError, OSError):
                    with self.lock:
                        self.broken += 1
                with self.lock:
                    self.kinds[kind] += 1

    def expect(self, answer: httpx.Response, *statuses: int) -> Any:
        """The JSON of an answer whose status is one of these, or a refusal of a full queue."""
        if answer.status_code in (*statuses, 429):
            return answer.json()
        with self.lock:
            self.wrong.append(f"{answer.status_code}: {answer.text[:200]}")
        return {}

    def keep(self, said: Any) -> None:
        with self.lock:
            self.ids |= {one["id"] for one in said.get("results", [said]) if "id" in one}


def text(dice: random.Random, most: int = 40) -> str:
    return " ".join(dice.choices(WORDS, k=dice.randint(1, most)))


def good(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    began = time.perf_counter()
    load.keep(load.expect(asking.post("/v1/predict", json={"text": text(dice)}), 200))
    with load.lock:
        load.took_ms.append((time.perf_counter() - began) * 1000)


def several(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    texts = [text(dice) for _ in range(dice.randint(2, 30))]
    load.keep(load.expect(asking.post("/v1/predict", json={"texts": texts}), 200))


def corrected(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    said = load.expect(asking.post("/v1/predict", json={"text": text(dice)}), 200)
    load.keep(said)
    if "id" in said:
        load.expect(asking.post("/v1/feedback", json={"id": said["id"], "rating": -1, "correction": "card"}), 200, 404)


def bad(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    body = dice.choice(
        [b"", b"{", b"[1]", b'{"text": 5}', b'{"texts": []}', b'{"txet": "x"}', b"\xff\xfe", b'{"text": " "}']
    )
    load.expect(asking.post("/v1/predict", content=body, headers={"Content-Type": "application/json"}), 400, 422)


def huge(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    load.expect(asking.post("/v1/predict", json={"text": "x" * dice.choice([30_000, 3_000_000])}), 413)


def raw(load: Load, sends: bytes) -> socket.socket:
    host, port = load.address.removeprefix("http://").split(":")
    one = socket.create_connection((host, int(port)), timeout=60)
    one.sendall(sends)
    return one


def request(body: bytes) -> bytes:
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def slow(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    sends = request(json.dumps({"text": text(dice)}).encode())
    with raw(load, sends[:60]) as one:
        for start in range(60, len(sends), 60):
            time.sleep(0.05)
            one.sendall(sends[start : start + 60])
        got = one.recv(65536)
    if not got.startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")):
        raise OSError("broken off") if not got else AssertionError(got[:100])


def gone(load: Load, asking: httpx.Client, dice: random.Random) -> None:
    sends = request(json.dumps({"texts": [text(dice)] * 20}).encode())
    raw(load, sends[: dice.randint(1, len(sends))] if dice.random() < 0.5 else sends).close()


KINDS: dict[str, tuple[float, Any]] = {
    "good": (60, good), "several": (8, several), "corrected": (8, corrected), "bad": (8, bad), "huge": (3, huge),
    "slow": (5, slow), "gone": (8, gone),
}  # fmt: skip


def versions(bundle: Path, folder: Path) -> list[Path]:
    """Two bundles that say the same and are two versions."""
    made = []
    for number in range(2):
        place = folder / f"bundle-{number}"
        shutil.copytree(bundle, place, ignore=shutil.ignore_patterns(bundle_format.MERGED))
        fields = json.loads((place / "bundle.json").read_bytes())
        del fields["files"], fields["format"]
        bundle_format.write(place, {**fields, "metrics": {**fields["metrics"], "copy": number}})
        made.append(place)
    return made


def storm(load: Load, parent: psutil.Process, asked: argparse.Namespace, bundles: list[Path], registry: Path) -> Any:
    """Let the clients loose; (memory by second, swaps, whether a worker was killed)."""
    threads = [threading.Thread(target=load.client, args=(seed,)) for seed in range(asked.clients)]
    for thread in threads:
        thread.start()
    began, memory, swaps, killed = time.monotonic(), [], 0, False
    while (passed := time.monotonic() - began) < asked.minutes * 60:
        time.sleep(1)
        memory.append(resident_mb(parent.pid))
        if passed > (swaps + 1) * SWAP_S:
            swaps += 1
            store.promote(registry, bundles[swaps % 2])
        if not killed and asked.workers > 1 and passed > asked.minutes * 30:
            os.kill(parent.children()[0].pid, signal.SIGKILL)
            killed = True
    load.stop.set()
    for thread in threads:
        thread.join()
    return memory, swaps, killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmops-load-") as place:
        root = Path(place)
        bundles, registry = versions(asked.bundle, root), root / "registry"
        store.promote(registry, bundles[0])
        settings = {"port": 0, "workers": asked.workers, "header_timeout_s": 5}
        command = [sys.executable, "-c", SERVE, str(root), json.dumps(settings)]
        with (root / "said").open("w+") as said:
            server = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            try:
                found = told(server, root / "said", asked, bundles, registry)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)
        with sqlite3.connect(root / "traffic" / "traffic.db") as log:
            logged = {row[0] for row in log.execute("SELECT id FROM requests")}
        log.close()
        found["not_logged"] = len(found.pop("ids") - logged)
    found["holds"] = (
        not found["wrong"] and found["broken_off"] <= asked.clients and found["memory_grew"] <= GROWS
        and found["not_logged"] <= (LOST if found["killed"] else 0)
    )  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")
    sys.exit(not found["holds"])


def told(server: Any, said: Path, asked: argparse.Namespace, bundles: list[Path], registry: Path) -> dict[str, Any]:
    """What the load showed."""
    while "http://" not in said.read_text():
        if server.poll() is not None:
            raise SystemExit(said.read_text())
        time.sleep(0.05)
    load = Load(said.read_text().split("answers on ")[1].split()[0])
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{load.address}/readyz", timeout=5).raise_for_status()
            break
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise SystemExit(said.read_text()) from None
            time.sleep(0.1)
    memory, swaps, killed = storm(load, psutil.Process(server.pid), asked, bundles, registry)
    quarter = max(len(memory) // 4, 1)
    second, last = (statistics.median(memory[at : at + quarter] or memory) for at in (quarter, 3 * quarter))
    spread = statistics.quantiles(load.took_ms, n=100)
    return {
        "minutes": asked.minutes, "requests": sum(load.kinds.values()), "kinds": dict(load.kinds),
        "wrong": load.wrong[:5], "broken_off": load.broken, "swaps": swaps, "killed": killed,
        "p50_ms": round(spread[49], 1),
        "p99_ms": round(spread[98], 1), "memory_mb": [round(second), round(last)],
        "memory_grew": round(last / second, 3), "answered": len(load.ids), "ids": load.ids,
    }  # fmt: skip


if __name__ == "__main__":
    main()
