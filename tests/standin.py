"""A stand-in bundle (a real ONNX file made by hand) and a real server on it, for the tests of what serves."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmops.bundle import format as bundle_format
from llmops.core.protocols import Places
from llmops.fields.config import CleanStep

LABELS = ["card", "parcel", "refund"]
HERE = Path(__file__).resolve().parents[1]


def tokenizer_json(words: list[str]) -> str:
    """A word-level tokenizer; every word it doesn't know is [UNK]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=64)  # what real files bring along, and the codec must switch off
    return tokenizer.to_str()


def write_onnx(path: Path, weights: np.ndarray, slow: int = 0) -> None:
    """logits = masked mean of each token's row of `weights` [vocabulary, classes]; `slow` large products waste time."""
    from onnx import TensorProto, helper, numpy_helper, save

    make = helper.make_node
    constants = {"weights": weights.astype(np.float32), "last": np.array([2]), "middle": np.array([1])}
    nodes = [
        make("Gather", ["weights", "tokens"], ["rows"]),
        make("Cast", ["mask"], ["floats"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["floats", "last"], ["wide"]),
        make("Mul", ["rows", "wide"], ["kept"]),
        make("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        make("ReduceSum", ["floats", "middle"], ["count"], keepdims=1),
        make("Div", ["sum", "count"], ["mean"]),
    ]
    last = "mean"
    if slow:
        constants |= {
            "big": np.full((1200, 1200), 1e-3, np.float32),
            "zero": np.zeros(1, np.float32),
            "axes": np.array([0, 1]),
        }
        nodes += [
            make("ReduceSum", ["floats", "axes"], ["whole"], keepdims=0),
            make("Mul", ["big", "whole"], ["work0"]),
        ]
        nodes += [make("MatMul", [f"work{turn}", "big"], [f"work{turn + 1}"]) for turn in range(slow)]
        nodes += [
            make("ReduceSum", [f"work{slow}", "axes"], ["done"], keepdims=0),
            make("Mul", ["done", "zero"], ["nothing"]),
            make("Add", ["mean", "nothing"], ["slowed"]),
        ]
        last = "slowed"
    nodes.append(make("Identity", [last], ["logits"]))
    shape = ["batch", "length"]
    graph = helper.make_graph(
        nodes, "standin",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("tokens", "mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "classes"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def make_bundle(
    folder: Path, labels: list[str] = LABELS, threshold: float = 0.5, slow: int = 0, ballast: int = 0, **fields: Any
) -> Path:
    """A bundle that answers with the label whose name a text contains, surely; other texts leave it unsure.

    `ballast` more words make the weights larger.
    """
    folder.mkdir(parents=True)
    words = [*labels, *(f"ballast{index}" for index in range(ballast))]
    weights = np.zeros((len(words) + 2, len(labels)))
    weights[2 : 2 + len(labels)] = 40 * np.eye(len(labels))
    write_onnx(folder / "model.onnx", weights, slow)
    (folder / "tokenizer.json").write_text(tokenizer_json(words))
    (folder / "MODEL_CARD.md").write_text("# A stand-in\n")
    settings = {"labels": labels, "max_tokens": 32, "temperature": 1.0, "threshold": threshold}
    settings |= {name: fields.pop(name) for name in settings if name in fields}
    defaults = {
        "task": "text-classification", "task_version": 1, "settings": settings, "cleaning": CleanStep().plain(),
        "metrics": {"valid": {"accuracy": 0.9}}, "lineage": {"run": "20261122-133000-7f3a", "candidate": "float32"},
    }  # fmt: skip
    bundle_format.write(folder, {**defaults, **fields})
    return folder


class Caller:
    """One client with a connection that stays open."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __del__(self) -> None:
        self.connection.close()

    def raw(self, method: str, path: str, body: bytes | None = None, kind: str | None = "application/json"):
        """(status, headers, body as bytes)"""
        self.connection.request(method, path, body, {"Content-Type": kind} if body is not None and kind else {})
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def __call__(self, method: str, path: str, plain: Any = None) -> tuple[int, Any]:
        """(status, JSON)"""
        status, _, body = self.raw(method, path, None if plain is None else json.dumps(plain).encode())
        return status, json.loads(body)

    def text(self, text: str) -> Any:
        status, said = self("POST", "/v1/predict", {"text": text})
        assert status == 200, said
        return said


@dataclass
class Outcome:
    """What a load got: ids of the rightly answered, refusals (429), anything else."""

    ids: set[str] = field(default_factory=set)
    refused: int = 0
    other: list[Any] = field(default_factory=list)

    @property
    def right(self) -> int:
        return len(self.ids)


def load(port: int, requests: int, clients: int) -> Outcome:
    """Send `requests` from `clients` threads at once, each on its own connection; the right answer is known."""
    outcome, places = Outcome(), iter(range(requests))

    def work() -> None:
        call = Caller(port)
        while (place := next(places, None)) is not None:
            label = LABELS[place % len(LABELS)]
            status, said = call("POST", "/v1/predict", {"text": f"{'please ' * (place % 9)}{label} {place}"})
            if status == 200 and said["best"] == label:
                outcome.ids.add(said["id"])
            elif status == 429:
                outcome.refused += 1
            else:
                outcome.other.append(said)

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(work) for _ in range(clients)]:
            done.result()
    assert not outcome.other, outcome.other[:3]
    return outcome


def places(root: Path) -> Places:
    return Places(root, root / "runs", root / "registry" / "demo", root / "traffic" / "demo")


CHAMPION = """
import json, sys
from pathlib import Path
from llmops.core.protocols import Places
from llmops.serving.config import ServeSection
from llmops.serving.server import serve_champion
root, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
places = Places(root, root / "runs", root / "registry" / "demo", root / "traffic" / "demo")
serve_champion("demo", places, ServeSection(**settings), lambda line: print(line, flush=True))
"""


@contextmanager
def started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process of a server that says "... answers on http://127.0.0.1:PORT ..." and its port; killed at the end."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        command, text=True, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "answers on" in line, line + process.stdout.read()
        port = int(line.rsplit(":", 1)[1].split()[0])
        wait_until(lambda: is_ready(port), 10, process)
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def serve_bundle(bundle: Path, traffic: Path | None = None, **settings: Any):
    """A server on one bundle."""
    command = [sys.executable, "-m", "llmops.serving", "--bundle", str(bundle), "--port", "0"]
    command += ["--traffic", str(traffic)] if traffic else []
    return started([*command, "--settings", json.dumps({"threads": 1, **settings})])


def serve_champion(root: Path, **settings: Any):
    """A server on the champion of `places(root)`."""
    return started([sys.executable, "-c", CHAMPION, str(root), json.dumps({"port": 0, "threads": 1, **settings})])


def is_ready(port: int) -> bool:
    try:
        return Caller(port)("GET", "/readyz")[0] == 200
    except OSError:
        return False


def wait_until(holds: Any, seconds: float, process: subprocess.Popen[str] | None = None) -> None:
    """Poll until `holds()`; fail after `seconds` or when the process ends."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.02)
