"""kill -9 at 20 random moments of one training, taken up each time: the weights are those of an undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops.core.artifact import file_digest
from tests.words import dataset, settings, tiny_bert

ROOT = Path(__file__).parent.parent
KILLS = 20

DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch, peft, transformers  # before the forks, which then start at once
from llmops.core.artifact import write_json
from llmops.tasks.text_classification.learner import TextClassifier
from tests.rooms import FakeRoom
from tests.words import TASK, settings

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
dice, killed = random.Random(sys.argv[3]), 0

def train():
    learner, room = TextClassifier(TASK, settings(**json.loads(sys.argv[3])), 1), FakeRoom(folder)
    learner.train(Path(sys.argv[4]), room.work, room)
    learner.save(folder / "model")
    write_json(folder / "said.json", room.said)

while True:
    child = os.fork()
    if not child:
        try:
            train()
        finally:
            os._exit(0 if (folder / "said.json").exists() else 1)
    if killed < kills:
        time.sleep(dice.uniform(0.2, 1.2))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        print(killed, os.waitstatus_to_exitcode(status))
        break
    killed += 1
"""

KINDS: dict[str, dict[str, Any]] = {
    "full": {"model": "bert", "epochs": 120, "encoder_dropout": 0.1, "learning_rate": 1e-3},
    "lora": {"model": "bert", "epochs": 120, "method": "lora", "lora": {"dropout": 0.1}},
    "scratch": {"model": "transformer", "epochs": 300, "layers": 2, "learning_rate": 1e-3},
}


def driven(folder: Path, kills: int, changes: dict[str, Any], data: Path) -> tuple[int, str, list[str]]:
    """(kills, digest of the weights, what the last process said) of a training in a process that is killed so often."""
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, str(folder), str(kills), json.dumps(changes), str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    killed, code = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return killed, file_digest(folder / "model" / "model.safetensors"), json.loads((folder / "said.json").read_text())


@pytest.mark.prove
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_kills_change_no_bit(tmp_path: Path, kind: str) -> None:
    changes = {**KINDS[kind], "checkpoint_every_s": 0.02, "dropout": 0.2, "precision": "float32"}
    if changes["model"] == "bert":
        changes["model"] = str(tiny_bert(tmp_path / "bert"))
    data = dataset(tmp_path, settings(**changes))
    _, wanted, _ = driven(tmp_path / "whole", 0, changes, data)
    killed, found, said = driven(tmp_path / "killed", KILLS, changes, data)
    assert killed == KILLS, "the training was over before it was killed so often: make it longer"
    assert "carrying on with epoch" in said[0]
    assert found == wanted
