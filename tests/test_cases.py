"""Every mistake of the tables gives what, where and what to do, the right exit code, never a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from llmops.cli import app
from tests import cases_data, tiny
from tests.cases_config import CASES, Case

BAG = "{model: bag-of-words, epochs: 1, width: 8, vocabulary: 100}"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def llmops(*arguments: str | Path) -> tuple[int, str]:
    """(exit code, all that was said), in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert result.exit_code != 1, f"a bug: {result.output}"
    return result.exit_code, result.output


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_told(tmp_path: Path, case: Case) -> None:
    config = tmp_path / "demo.yaml"
    if case.config is not None:
        config.write_bytes(case.config if isinstance(case.config, bytes) else case.config.encode())
    code, said = llmops(*(config if word == "CONFIG" else word for word in case.arguments.split()))
    assert code == case.code, said
    for word in case.words:
        assert word in said, said
    if code == 3:
        assert said.startswith("error:"), said
        assert "  where  " in said, said
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"demo.yaml"}, f"something was left behind: {left}"


@pytest.mark.parametrize("case", cases_data.CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_data_is_told(tmp_path: Path, case: cases_data.Case) -> None:
    case.make(tmp_path)
    config = tmp_path / "demo.yaml"
    blocks = {
        "project": "demo",
        "task": {"name": "text-classification", **case.task},
        "need": {"probe_s": 0.05},
        "prepare": {"sources": ["data.csv"], **case.prepare},
        "train": yaml.safe_load(BAG),
    }
    config.write_text(yaml.safe_dump(blocks))
    code, said = llmops("prepare", config)
    assert code == case.exit_code, said
    for word in case.need_says or case.words:
        assert word.lower() in said.lower(), said
    assert "  where  " in said, said
    assert "  do     " in said, said
    assert not list((tmp_path / "runs").glob("demo/*/prepare")), "a data set was sealed all the same"


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that went as far as a bundle."""
    config = tiny.project(tmp_path_factory.mktemp("turned"))
    assert llmops("compress", config)[0] == 0
    return config


def bundled(config: Path) -> str:
    """The id of the run that has the bundle; commands that fail open runs of their own."""
    return next(
        path.parts[-3] for path in config.parent.glob("runs/tiny/*/compress/done.json") if "latest" not in path.parts
    )


MACHINE = [
    ("too little memory", ["train", "--set", "need.max_memory_mb=1"], "memory"),
    ("too little time", ["train", "--set", "need.max_hours=1e-9"], "max_hours"),
    ("no GPU", ["train", "--set", "train.device=cuda"], "cuda"),
]


@pytest.mark.parametrize(("arguments", "word"), [case[1:] for case in MACHINE], ids=[case[0] for case in MACHINE])
def test_what_the_machine_cannot_exits_5(turned: Path, arguments: list[str], word: str) -> None:
    code, said = llmops(arguments[0], turned, *arguments[1:])
    assert code == 5, said
    assert word in said
    assert "  do     " in said


def test_a_taken_port_exits_5(turned: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, said = llmops("serve", turned, "--run", bundled(turned), "--port", port)
    assert code == 5, said
    assert f"port {port} is taken" in said


def test_an_address_of_another_machine_exits_5(turned: Path) -> None:
    code, said = llmops("serve", turned, "--run", bundled(turned), "--host", "203.0.113.7", "--port", "0")
    assert code == 5, said
    assert "203.0.113.7" in said


HIDE = "import sys\nfor name in ('torch', 'sklearn'):\n    sys.modules[name] = None\n"


def test_a_missing_extra_exits_5_with_the_line_to_type(tmp_path: Path) -> None:
    config = tiny.project(tmp_path)
    code = f"{HIDE}from llmops.cli import main\nsys.argv = ['llmops', 'train', {str(config)!r}]\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "pip install 'llmops-loop[train]'" in done.stderr
    assert "Traceback" not in done.stderr


GATES = [
    ("accuracy", ["--set", "need.accept.accuracy.at_least=1.0", "--set", "train.epochs=1"]),
    ("above_baseline", ["--set", "need.accept.above_baseline={at_least: 0.9}"]),
    ("latency_p95_ms", ["--set", "need.accept.latency_p95_ms={at_most: 0.001}"]),
    ("size_mb", ["--set", "need.accept.size_mb={at_most: 0.0001}"]),
    ("f1_macro", ["--set", "need.accept.f1_macro={at_least: 1.0}", "--set", "train.epochs=1"]),
]


@pytest.mark.parametrize(("gate", "settings"), GATES, ids=[gate for gate, _ in GATES])
def test_a_refused_gate_exits_6(turned: Path, gate: str, settings: list[str]) -> None:
    code, said = llmops("deploy", turned, *settings)
    assert code == 6, said
    assert gate in said
    assert not (turned.parent / "registry" / "tiny" / "champion").exists()


def test_no_champion_exits_4(turned: Path) -> None:
    for arguments in (["serve", turned], ["predict", turned, turned.parent / "data.csv"], ["rollback", turned]):
        code, said = llmops(*arguments)
        assert code == 4, said
        assert "  do     " in said


def test_unknown_runs_and_files_exit_4(turned: Path) -> None:
    for arguments in (["show", turned, "1999"], ["train", turned, "--run", "1999"], ["promote", turned, "1999"]):
        assert llmops(*arguments)[0] == 4
    assert llmops("predict", turned, turned.parent / "absent.csv", "--run", bundled(turned))[0] == 4
    assert llmops("init", turned.parent, "--data", turned.parent / "absent.csv")[0] == 4


def test_init_never_overwrites(turned: Path) -> None:
    before = turned.read_text()
    code, said = llmops("init", turned.parent, "--data", turned.parent / "data.csv", "--project", "tiny")
    assert code == 2
    assert "exists already" in said
    assert turned.read_text() == before
