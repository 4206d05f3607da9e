"""serving: schemathesis sends what /openapi.json says, and what it does not say; nothing is answered 5xx."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import standin
from tests.standin import Caller
from tests.standin_writer import Parrot, served

CASES = 25
"""Requests of each kind for each address."""


@contextmanager
def server(kind: str, folder: Path) -> Iterator[int]:
    with ExitStack() as stack:
        if kind == "chat":
            yield stack.enter_context(served(folder, Parrot())).port
        else:
            several = {"labels": ["card", "parcel"], "several": True, "max_tokens": 32}
            more = {"labels": several["labels"], "settings": several} if kind == "several labels" else {}
            bundle = standin.make_bundle(folder / "bundle", **more)
            yield stack.enter_context(standin.serve_bundle(bundle, folder / "traffic.db"))[1]


def fuzzed(port: int, folder: Path, cases: int, seed: int = 1) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json",
        "--checks", "not_a_server_error", "--mode", "all", "--phases", "examples,coverage,fuzzing",
        "--max-examples", str(cases), "--seed", str(seed), "--request-timeout", "30", "--no-color",
        "--generation-database", "none",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout or "passed" in done.stdout


@pytest.mark.parametrize("kind", ["one label", "several labels", "chat"])
def test_nothing_that_the_description_allows_or_forbids_is_a_fault_of_the_server(kind: str, tmp_path: Path) -> None:
    with server(kind, tmp_path) as port:
        fuzzed(port, tmp_path, CASES)
        assert Caller(port)("GET", "/readyz")[0] == 200


@pytest.mark.prove
@pytest.mark.parametrize("kind", ["one label", "several labels", "chat"])
def test_nor_in_a_thousand_cases(kind: str, tmp_path: Path) -> None:
    with server(kind, tmp_path) as port:
        for seed in range(2, 6):
            fuzzed(port, tmp_path, 250, seed)
        assert Caller(port)("GET", "/readyz")[0] == 200
