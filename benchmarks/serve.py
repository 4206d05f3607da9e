"""Our server beside what a user would write instead: requests a second and waiting times, by wrk, in alternating turns.

    pip install fastapi litserve; apt install wrk
    python benchmarks/serve.py BUNDLE TEXTS.csv [--chosen BUNDLE] [--turns 3] [--seconds 8] [--clients 1 8 64]

BUNDLE is a float32 bundle of text classification, which all but `pipeline` answer with; --chosen is the one that
`compress` chose. TEXTS.csv has a column `text`. Servers are processes on the loopback address, one at a time; a turn
asks each at every number of clients, after a short warm-up. Ours keeps its traffic log, as it does by default.

    llmops      llmops' server, as it stands
    chosen      the same on the chosen bundle
    bare        onnxruntime behind FastAPI, one request a call       (serve_rivals.py)
    litserve    LitServe, batches of 32 that wait at most 5 ms        (serve_rivals.py)
    pipeline    transformers' pipeline behind FastAPI                 (serve_rivals.py)

One JSON line last: medians over the turns, the share of the best of the others, and of ours the seconds from its start
to its first answer and the resident memory after the load.
"""

from __future__ import annotations

import argparse
import csv
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.command import resident_mb

HERE = Path(__file__).parent
OURS, CHOSEN = "llmops", "chosen"
RIVALS = ("bare", "litserve", "pipeline")
WARM_S = 2
WRK = """\
local bodies = {{ {bodies} }}
local place = 0
local thread = 0
function setup(one) thread = thread + 1; one:set("first", thread * 97) end
function init(args) place = first end
function request()
  place = place % #bodies + 1
  return wrk.format("POST", "{path}", {{ ["Content-Type"] = "application/json" }}, bodies[place])
end
function done(summary, latency, requests)
  io.write(string.format('\\n{{"requests": %d, "us": %d, "p50_us": %d, "p95_us": %d, "bad": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(95), summary.errors.status + summary.errors.timeout
    + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


def script(texts: list[str], path: str) -> str:
    """wrk's program: the texts one after the other, from another place in each thread."""
    bodies = ",\n".join("[==[" + json.dumps({"text": text}) + "]==]" for text in texts)
    return WRK.format(bodies=bodies, path=path)


def command(name: str, asked: argparse.Namespace, port: int, folder: Path) -> list[str]:
    """How a server is started."""
    if name not in (OURS, CHOSEN):
        return [sys.executable, "-m", "benchmarks.serve_rivals", name, str(asked.bundle), str(port)]
    bundle = asked.bundle if name == OURS else asked.chosen
    traffic = str(folder / f"{name}.db")
    return [sys.executable, "-m", "llmops.serving", "--bundle", str(bundle), "--port", str(port), "--traffic", traffic]


@contextmanager
def serving(name: str, asked: argparse.Namespace, folder: Path, text: str) -> Iterator[tuple[int, float, int]]:
    """Start a server; its port, the seconds to its first answer, and its process id."""
    port = free_port()
    with (folder / f"{name}.log").open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command(name, asked, port, folder), cwd=HERE.parent, stdout=log, stderr=log)
        try:
            while not answered(port, path_of(name), text):
                if process.poll() is not None or time.perf_counter() - began > 120:
                    raise SystemExit(f"{name} did not come up: {(folder / f'{name}.log').read_text()[-2000:]}")
                time.sleep(0.01)
            yield port, time.perf_counter() - began, process.pid
        finally:
            if process.poll() is None:
                for one in [process, *psutil.Process(process.pid).children(recursive=True)]:
                    one.terminate()
            process.wait(30)


def path_of(name: str) -> str:
    """Where a server is asked."""
    return "/v1/predict" if name in (OURS, CHOSEN) else "/predict"


def answered(port: int, path: str, text: str) -> bool:
    """Whether a request gets its answer."""
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def load(port: int, program: Path, clients: int, seconds: float) -> dict[str, float]:
    """What wrk saw."""
    words = ["wrk", "-t", "1", "-c", str(clients), "-d", f"{seconds:g}s", "--latency", "-s", str(program)]
    said = subprocess.run([*words, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True).stdout
    found = json.loads(said.strip().splitlines()[-1])
    if found["bad"]:
        raise SystemExit(f"{found['bad']} of {found['requests']} requests failed")
    rate = found["requests"] / found["us"] * 1e6
    return {"per_s": rate, "p50_ms": found["p50_us"] / 1e3, "p95_ms": found["p95_us"] / 1e3}


def turn(names: list[str], asked: argparse.Namespace, folder: Path, texts: list[str], found: dict[str, Any]) -> None:
    """Each server once, at every number of clients."""
    for name in names:
        program = folder / f"{name}.lua"
        program.write_text(script(texts, path_of(name)), encoding="utf-8")
        with serving(name, asked, folder, texts[0]) as (port, started_s, pid):
            load(port, program, 4, WARM_S)
            told = found.setdefault(name, {"start_s": [], "rss_mb": []})
            for clients in asked.clients:
                seen = load(port, program, clients, asked.seconds)
                told.setdefault(str(clients), []).append(seen)
                sys.stderr.write(
                    f"{name:9s} {clients:3d} clients: {seen['per_s']:7.1f}/s p50 {seen['p50_ms']:.2f} ms\n"
                )
            told["start_s"].append(started_s)
            told["rss_mb"].append(resident_mb(pid))


def medians(told: dict[str, Any]) -> dict[str, Any]:
    """The median over the turns."""
    return {
        name: {key: round(statistics.median(one[key] for one in values), 2) for key in values[0]}
        if isinstance(values[0], dict)
        else round(statistics.median(values), 2)
        for name, values in told.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--chosen", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--only", nargs="+", choices=[OURS, *RIVALS])
    asked = parser.parse_args()
    asked.bundle, asked.chosen = asked.bundle.resolve(), asked.chosen and asked.chosen.resolve()
    with asked.texts.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream) if "]==]" not in row["text"]]
    names = [*(asked.only or [OURS, *RIVALS]), *([CHOSEN] if asked.chosen else [])]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="llmops-serve-") as place:
        for number in range(asked.turns):
            turn(names if number % 2 == 0 else names[::-1], asked, Path(place), texts, found)
    told = {name: medians(one) for name, one in found.items()}
    sys.stdout.write(json.dumps({"turns": asked.turns, **told, "of_the_best": beside(told, asked.clients)}) + "\n")


def beside(told: dict[str, Any], clients: list[int]) -> dict[str, Any]:
    """Ours and the chosen over the best of the others, requests a second by clients."""
    others = [one for name, one in told.items() if name in RIVALS]
    if not others:
        return {}
    return {
        name: {
            str(count): round(told[name][str(count)]["per_s"] / max(one[str(count)]["per_s"] for one in others), 2)
            for count in clients
        }
        for name in (OURS, CHOSEN)
        if name in told
    }


if __name__ == "__main__":
    main()
