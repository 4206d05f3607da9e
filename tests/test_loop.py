"""The loop as a user drives it: a run from nothing to a champion, reuse, changed settings, gates, locks, kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmops.loop import LOOP
from tests import tiny

LLMOPS = [sys.executable, "-m", "llmops.cli"]


def llmops(*arguments: str | Path, code: int = 0, cwd: Path | None = None) -> str:
    """Run the command in a process of its own; returns stdout."""
    done = subprocess.run([*LLMOPS, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code in (0, 10) else done.stderr


def states(said: str) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in json.loads(said)["stages"]}


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose loop has turned once; tests work on copies."""
    config = tiny.project(tmp_path_factory.mktemp("turned"))
    said = json.loads(llmops("run", config, "--json"))
    assert said["champion"] == 1
    return config


@pytest.fixture
def copy(turned: Path, tmp_path: Path) -> Path:
    """A copy of the turned project at another place, as when a folder is moved."""
    shutil.copytree(turned.parent, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "tiny.yaml"


def test_a_run_leaves_plain_files(turned: Path) -> None:
    run = turned.parent / "runs" / "tiny" / "latest"
    for name in ("config.yaml", "run.json", "events.jsonl", "log.txt", "report.html"):
        assert (run / name).is_file(), name
    for row in LOOP:
        if row.optional:
            continue
        for name in ("report.json", "report.md", "done.json"):
            assert (run / row.name / name).is_file(), f"{row.name}/{name}"
    assert (turned.parent / "registry" / "tiny" / "champion").read_text().strip() == "1"
    assert not list((turned.parent / "runs" / "tiny" / ".work").iterdir()), "work was left behind"


def test_nothing_is_done_twice(copy: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in (copy.parent / "runs" / "tiny").iterdir())
    assert set(states(llmops("run", copy, "--json", cwd=tmp_path)).values()) == {"done"}
    assert sorted(path.name for path in (copy.parent / "runs" / "tiny").iterdir()) == before
    assert llmops("run", copy, "--dry-run", "--exit-code") == ""


def test_a_changed_setting_opens_a_new_run_and_shares_the_rest(copy: Path) -> None:
    assert llmops("run", copy, "--dry-run", "--exit-code", "--set", "train.epochs=7", code=10) == ""
    said = llmops("train", copy, "--set", "train.epochs=7", "--json")
    assert states(said) == {"need": "run", "prepare": "reuse", "train": "run"}
    new = Path(json.loads(said)["path"])
    old = next(path for path in new.parent.iterdir() if path.name[0].isdigit() and path != new)
    tokens = "prepare/dataset/train.safetensors"
    assert (new / tokens).stat().st_ino == (old / tokens).stat().st_ino, "shared by hard link"
    assert (old / "train" / "done.json").exists(), "the old run is whole"


def test_new_rows_change_the_data_set_and_everything_after(copy: Path) -> None:
    with (copy.parent / "data.csv").open("a") as stream:
        stream.write("the courier lost it in the depot van,delivery\n")
    assert llmops("prepare", copy, "--dry-run", "--exit-code", code=10) == ""
    assert states(llmops("prepare", copy, "--json")) == {"need": "run", "prepare": "run"}


def test_a_refused_gate_exits_6_and_leaves_the_champion(copy: Path) -> None:
    said = llmops(
        "run",
        copy,
        "--set",
        "need.accept.accuracy.at_least=1.0",
        "--set",
        "need.accept.size_mb={at_most: 0.001}",
        code=6,
    )
    assert "size_mb" in said
    assert (copy.parent / "registry" / "tiny" / "champion").read_text().strip() == "1"
    assert json.loads(llmops("runs", copy, "--json"))[0]["version"] == ""


def test_a_tampered_artifact_is_recognised(copy: Path) -> None:
    rows = copy.parent / "runs" / "tiny" / "latest" / "prepare" / "dataset" / "train.jsonl"
    rows.write_text(rows.read_text().replace("courier", "kurier"))
    said = llmops("train", copy, "--set", "train.epochs=3", code=4)
    assert "digest" in said


def test_the_lock_names_its_holder(copy: Path) -> None:
    lock = str(copy.parent / "runs" / "tiny" / ".lock")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom llmops.core.lock import held\n"
        f"with held(Path({lock!r}), 'a test'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said = llmops("train", copy, "--set", "train.epochs=3", code=7)
        assert "a test" in said
        assert str(holder.pid) in said
    finally:
        holder.kill()
        holder.communicate()
    llmops("prepare", copy)  # the kernel freed the lock


def test_secrets_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.project(tmp_path / "p")
    (tmp_path / "p" / "hidden-place").mkdir()
    shutil.move(tmp_path / "p" / "data.csv", tmp_path / "p" / "hidden-place" / "data.csv")
    config.write_text(config.read_text().replace("[data.csv]", "['${LLMOPS_TEST_PLACE}/data.csv']"))
    monkeypatch.setenv("LLMOPS_TEST_PLACE", "hidden-place")
    llmops("prepare", config)
    run = tmp_path / "p" / "runs" / "tiny" / "latest"
    assert "${LLMOPS_TEST_PLACE}" in (run / "config.yaml").read_text()
    assert "hidden-place" not in (run / "config.yaml").read_text()


def test_rollback_promote_compare_show_clean(copy: Path) -> None:
    llmops("run", copy, "--set", "train.epochs=5", "--set", "need.accept.champion=null")
    runs: list[dict[str, Any]] = json.loads(llmops("runs", copy, "--json"))
    assert len(runs) == 2
    newest, oldest = runs[0]["run"], runs[1]["run"]
    compared = json.loads(llmops("compare", copy, oldest, newest, "--json"))
    assert compared["settings"]["train.epochs"] == [6, 5]
    assert "train" in json.loads(llmops("show", copy, newest, "--json"))["reports"]
    champion = copy.parent / "registry" / "tiny" / "champion"
    if champion.read_text().strip() == "2":  # equal bundles keep their version
        assert json.loads(llmops("rollback", copy, "--json")) == {"champion": 1}
    assert json.loads(llmops("promote", copy, newest, "--json"))["run"] == newest
    removed = json.loads(llmops("clean", copy, "--keep", "0", "--yes", "--json"))
    assert removed["removed"] is True
    assert (copy.parent / "registry" / "tiny" / "champion").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_with_their_codes_and_the_same_command_carries_on(tmp_path: Path, sent: int, code: int) -> None:
    config = tiny.project(tmp_path / "p", rows=600)
    settings = ["--set", "train.epochs=400", "--set", "train.checkpoint_every_s=0.1"]
    going = subprocess.Popen(
        [*LLMOPS, "train", str(config), *settings],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )
    events = tmp_path / "p" / "runs" / "tiny" / "latest" / "events.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (events.exists() and events.read_text().count('"stage": "train"') > 2):
        time.sleep(0.05)
    os.kill(going.pid, sent)
    _, said = going.communicate(timeout=30)
    assert going.returncode == code, said
    assert "Traceback" not in said
    llmops("train", config, "--set", "train.epochs=400")
