"""serving: good, bad, huge, slow and cancelled requests, swaps, a killed worker: see benchmarks/mixed_load.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import standin


@pytest.mark.parametrize("minutes", [0.15, pytest.param(1.0, marks=pytest.mark.prove)])
def test_all_that_clients_do_at_once(tmp_path: Path, minutes: float) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    command = [sys.executable, "-m", "benchmarks.mixed_load", str(bundle), "--minutes", str(minutes), "--clients", "8"]
    done = subprocess.run(command, cwd=standin.HERE, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == [] and found["broken_off"] <= 8 and found["killed"]
    assert found["not_logged"] <= 200 and found["answered"] > 100
    assert min(found["kinds"].values()) > 0 and (found["swaps"] > 2 or minutes < 1)
    assert minutes < 1 or found["memory_grew"] < 1.1
