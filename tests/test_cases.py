"""Every mistake of the tables gives what, where and what to do, the right exit code, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmops.cli import app
from tests.cases_config import CASES, Case


def ask(folder: Path, case: Case) -> tuple[int, str]:
    config = folder / "demo.yaml"
    if case.config is not None:
        config.write_bytes(case.config if isinstance(case.config, bytes) else case.config.encode())
    arguments = [str(config) if word == "CONFIG" else word for word in case.arguments.split()]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output + result.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said = ask(tmp_path, case)
    assert code == case.code, said
    assert "Traceback" not in said
    for word in case.words:
        assert word in said, said
    if code == 3:
        assert said.startswith("error:"), said
        assert "  where  " in said, said
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"demo.yaml"}, f"something was left behind: {left}"
