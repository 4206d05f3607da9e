"""kill -9, ten times in each stage: half at random moments, half at writes and renames. The same command then finishes,
with equal results, and nothing half-written is ever taken for whole."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmops.bundle import format as bundle_format
from llmops.core.artifact import tree_digest
from llmops.core.run import RunStore
from llmops.loop import LOOP
from llmops.registry import store as registry
from tests import tiny
from tests.test_loop import LLMOPS, llmops

STAGES = [row.name for row in LOOP]
TUNE = "tune: {trials: 4, seconds: 600, space: {learning_rate: {log: [1e-3, 3e-2]}, dropout: {uniform: [0.0, 0.4]}}}\n"
SLOWER = ["--set", "train.epochs=30", "--set", "train.checkpoint_every_s=0.05"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project as it stood before each stage, and under "end" as it stood at the end. No kills."""
    home = tmp_path_factory.mktemp("undisturbed")
    config = tiny.project(home / "project", rows=600)
    config.write_text(config.read_text() + TUNE)
    stands: dict[str, Path] = {}
    for stage in STAGES:
        stands[stage] = home / f"before-{stage}"
        shutil.copytree(home / "project", stands[stage], symlinks=True)
        llmops(stage, config, *SLOWER) if stage != "feedback" else llmops("run", config, *SLOWER)
    stands["end"] = home / "project"
    return stands


def took_s(undisturbed: dict[str, Path], stage: str) -> float:
    sealed = next(iter(RunStore(undisturbed["end"] / "runs" / "tiny").runs())).sealed(stage)
    assert sealed is not None
    return sealed.took_s


def command(stage: str, config: Path) -> list[str]:
    return ["run" if stage == "feedback" else stage, str(config), *SLOWER]


def kill_at_random(stage: str, config: Path, longest_s: float, dice: random.Random) -> bool:
    """Kill the command somewhere between the stage's start and its end; False when it had ended before."""
    going = subprocess.Popen([*LLMOPS, *command(stage, config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work = config.parent / "runs" / "tiny" / ".work"
    while going.poll() is None and not list(work.glob(f"{stage}-*")):
        time.sleep(0.005)
    time.sleep(dice.uniform(0, longest_s))
    alive = going.poll() is None
    going.kill()
    going.wait()
    return alive


def kill_at_write(stage: str, config: Path, call: int, when: str) -> bool:
    killer = [sys.executable, "-m", "tests.killer", str(call), when, *command(stage, config)]
    done = subprocess.run(killer, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def assert_nothing_half_written(project: Path) -> None:
    for run in RunStore(project / "runs" / "tiny").runs():
        for stage in STAGES:
            if (sealed := run.sealed(stage)) is not None:
                for artifact in sealed.artifacts:
                    assert tree_digest(run.path / stage / artifact.path) == artifact.sha256, f"{stage}: {artifact.path}"
                assert run.report(stage) is not None
        for line in (
            (run.path / "events.jsonl").read_text().splitlines() if (run.path / "events.jsonl").exists() else []
        ):
            json.loads(line)
    found = registry.champion(project / "registry" / "tiny")
    if found is not None:
        bundle_format.read(found[1])


def result(project: Path, stage: str) -> Any:
    """What must be equal, killed or not: weights, trials, candidates, rows; for the rest the exact answers."""
    run = next(iter(RunStore(project / "runs" / "tiny").runs())).path
    if stage == "train":
        return tree_digest(run / "train" / "model" / "model.safetensors")
    if stage == "tune":
        tables = json.loads((run / "tune" / "report.json").read_text())["tables"]
        trials = next(table for table in tables if "trial" in table["title"].lower())
        timed = [index for index, column in enumerate(trials["columns"]) if column.endswith("_s")]
        rows = [[value for index, value in enumerate(row) if index not in timed] for row in trials["rows"]]
        return rows, tree_digest(run / "tune" / "model" / "model.safetensors")
    if stage == "compress":
        return tree_digest(run / "compress" / "bundle" / "model.onnx"), tree_digest(
            run / "compress" / "bundle" / "tokenizer.json"
        )
    if stage == "prepare":
        return tree_digest(run / "prepare" / "dataset")
    if stage == "deploy":
        return registry.champion_number(project / "registry" / "tiny")
    return (run / stage / "done.json").exists()


@pytest.mark.prove
@pytest.mark.parametrize("stage", STAGES)
def test_ten_kills(undisturbed: dict[str, Path], tmp_path: Path, stage: str) -> None:
    dice = random.Random(stage)
    wanted = result(undisturbed["end"], stage)
    longest_s = took_s(undisturbed, stage)
    killed = 0
    for attempt in range(10):
        project = tmp_path / f"{attempt}"
        shutil.copytree(undisturbed[stage], project, symlinks=True)
        config = project / "tiny.yaml"
        if attempt % 2:
            alive = kill_at_random(stage, config, longest_s, dice)
        else:
            alive = kill_at_write(stage, config, dice.randint(1, 24), "before" if attempt % 4 else "after")
        killed += alive
        assert_nothing_half_written(project)
        llmops(*command(stage, config))
        assert_nothing_half_written(project)
        assert result(project, stage) == wanted, f"attempt {attempt}"
        shutil.rmtree(project)
    assert killed >= 6, f"only {killed} of 10 commands were still running when they were to be killed"
