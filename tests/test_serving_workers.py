"""serving: several processes behind one socket, one traffic log, figures of all; one that is killed is replaced."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from llmops.serving.summed import Summed
from tests import standin
from tests.standin import Caller


def figure(port: int, name: str) -> float:
    text = Caller(port).raw("GET", "/metrics")[2].decode()
    return sum(one.value for family in text_string_to_metric_families(text) for one in family.samples
               if one.name == name)  # fmt: skip


def logged(path: Path) -> set[str]:
    with sqlite3.connect(path) as log:
        found = {row[0] for row in log.execute("SELECT id FROM requests")}
    log.close()
    return found


def test_two_workers_answer_log_and_count_as_one_server(tmp_path: Path) -> None:
    bundle, traffic = standin.make_bundle(tmp_path / "bundle"), tmp_path / "traffic.db"
    with standin.serve_bundle(bundle, traffic, workers=2) as (process, port):
        family = psutil.Process(process.pid).children()
        assert len(family) == 2
        outcome = standin.load(port, requests=600, clients=12)
        assert outcome.right == 600 - outcome.refused and not outcome.other
        assert all(one.cpu_times().user > 0.05 for one in family), "both work"
        standin.wait_until(lambda: figure(port, "llmops_answers_total") == outcome.right, 5)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.returncode == 0 and not any(one.is_running() for one in family)
        assert logged(traffic) == outcome.ids


def test_a_killed_worker_is_replaced_and_the_other_answers_on(tmp_path: Path) -> None:
    bundle, traffic = standin.make_bundle(tmp_path / "bundle"), tmp_path / "traffic.db"
    with standin.serve_bundle(bundle, traffic, workers=2) as (process, port):
        parent = psutil.Process(process.pid)
        first = parent.children()[0].pid
        told: Counter[str] = Counter()
        ids: set[str] = set()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    answer = httpx.post(f"http://127.0.0.1:{port}/v1/predict", json={"text": "card"}, timeout=30)
                    told[str(answer.status_code)] += 1
                    ids.add(answer.json()["id"])
                except httpx.TransportError:  # what the killed one held is gone with it
                    told["broken off"] += 1

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        standin.wait_until(lambda: told["200"] > 50, 30)
        os.kill(first, signal.SIGKILL)
        standin.wait_until(lambda: len({one.pid for one in parent.children()} - {first}) == 2, 30)
        before = told["200"]
        standin.wait_until(lambda: told["200"] > before + 50, 30)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(told) <= {"200", "broken off"} and told["broken off"] <= 4
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        lost = ids - logged(traffic)
        assert len(lost) <= 20, "a kill costs the log its last 50 ms"


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with standin.serve_bundle(standin.make_bundle(tmp_path / "bundle"), workers=2) as (process, _):
        family = psutil.Process(process.pid).children()
        process.kill()
        process.wait(10)
        assert not psutil.wait_procs(family, timeout=20)[1]


def test_figures_add_up_and_a_version_is_no_sum(tmp_path: Path) -> None:
    text = (
        "# HELP llmops_answers_total Texts\n# TYPE llmops_answers_total counter\nllmops_answers_total 3.0\n"
        "# HELP llmops_model_version Version\n# TYPE llmops_model_version gauge\nllmops_model_version 7.0\n"
        '# HELP llmops_cut_total Cut\n# TYPE llmops_cut_total counter\nllmops_cut_total{why="slow"} 1.0\n'
    )
    one, two = Summed(tmp_path, 0), Summed(tmp_path, 1)
    one.leave(text.encode())
    said = two.all(text.replace("slow", "idle").encode()).decode()
    for line in ("llmops_answers_total 6.0", "llmops_model_version 7.0", 'llmops_cut_total{why="slow"} 1.0'):
        assert line in said
    (tmp_path / "worker-1-999999999.txt").write_bytes(text.replace(" 7.0", " 9.0").encode())
    dead = one.all(text.encode()).decode()
    assert "llmops_answers_total 6.0" in dead and "llmops_model_version 7.0" in dead, "counters of the dead count on"
    (tmp_path / "worker-1-999999999.txt").unlink()
    assert one.all(text.encode()).decode().count("llmops_answers_total 3.0") == 1, "its own file is not counted twice"
