"""serving: a new champion takes over without a failed request; the old one's memory is given back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from llmops.registry import store
from tests import standin
from tests.standin import Caller


def other_labels(version: int) -> list[str]:
    """Labels of a bundle that can be told apart: "card" means something else in each version."""
    return ["card", *(f"label {index} of {version}" for index in range(2))]


def promote(root: Path, version: int, **fields: object) -> int:
    bundle = standin.make_bundle(root / f"bundle-{version}", labels=other_labels(version), **fields)
    return store.promote(standin.places(root).registry, bundle)


class Asking:
    """Clients that ask on and on; `failed` must stay empty."""

    def __init__(self, port: int, clients: int) -> None:
        self.versions: list[int] = []
        self.failed: list[object] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(port,)) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, port: int) -> None:
        call = Caller(port)
        while not self.stop.is_set():
            status, said = call("POST", "/v1/predict", {"text": "card"})
            if status != 200 or said["best"] != "card":
                self.failed.append(said)
            elif {other["label"] for other in said["alternatives"]} != set(other_labels(said["version"])[1:]):
                self.failed.append(said)  # one version's labels under another's number
            self.versions.append(said.get("version"))

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def version_of(port: int) -> int:
    return int(Caller(port)("GET", "/v1/model")[1]["version"])


def test_swaps_and_rolls_back_without_a_failed_request(tmp_path: Path) -> None:
    promote(tmp_path, 1)
    with standin.serve_champion(tmp_path) as (_, port):
        asking = Asking(port, clients=3)
        promote(tmp_path, 2)
        standin.wait_until(lambda: version_of(port) == 2, 10)
        store.rollback(standin.places(tmp_path).registry)
        standin.wait_until(lambda: version_of(port) == 1, 10)
        asking.end()
    assert not asking.failed
    assert {1, 2} == set(asking.versions)


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one(tmp_path: Path) -> None:
    promote(tmp_path, 1)
    registry = standin.places(tmp_path).registry
    broken = standin.make_bundle(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    with standin.serve_champion(tmp_path) as (_, port):
        call = Caller(port)
        store.promote(registry, broken)
        standin.wait_until(lambda: b'llmops_swaps_total{result="failed"} 1.0' in call.raw("GET", "/metrics")[2], 10)
        assert call.text("card")["version"] == 1
        assert call("GET", "/readyz")[0] == 200
        assert promote(tmp_path, 3) == 3
        standin.wait_until(lambda: version_of(port) == 3, 10)


@pytest.mark.prove
def test_fifty_swaps_under_load_lose_nothing_and_do_not_leak(tmp_path: Path) -> None:
    places = standin.places(tmp_path)
    for version in (1, 2):
        promote(tmp_path, version, ballast=500_000 + version)
    with standin.serve_champion(tmp_path) as (process, port):
        asking = Asking(port, clients=4)
        sizes = []
        for turn in range(50):
            target = 1 + turn % 2
            store.rollback(places.registry, target)
            standin.wait_until(lambda target=target: version_of(port) == target, 30)
            time.sleep(0.3)
            sizes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
        asking.end()
    assert not asking.failed
    assert len(asking.versions) > 200 and {1, 2} == set(asking.versions)
    early, late = sorted(sizes[1:6])[2], sorted(sizes[-5:])[2]
    assert late < 1.15 * early, sizes
