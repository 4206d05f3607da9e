"""Whole loops of models that write: plain text, preferences, and a second turn whose tokenizer is another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_chat
from tests.test_loop import llmops


def numbers(verdict: dict[str, Any], stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(verdict["path"]) / stage / "report.json").read_text())["numbers"]
    return found


@pytest.mark.parametrize("project", [tiny_chat.document_project, tiny_chat.preference_project])
def test_the_loop_turns(project: Callable[[Path], Path], tmp_path: Path) -> None:
    verdict = json.loads(llmops("run", project(tmp_path), "--json"))
    proof = numbers(verdict, "deploy")
    assert verdict["champion"] == 1
    assert proof["parity"] == 1.0
    assert proof["logp_difference"] < 1e-3
    assert proof["loss"] == pytest.approx(proof["loss_trained"], abs=1e-4)
    if "reward_accuracy" in proof:
        trained = numbers(verdict, "train")
        assert 0 <= proof["reward_accuracy"] <= 1
        assert trained["valid_chosen_gain"] is not None


def test_a_champion_with_another_tokenizer_is_compared_on_the_same_words(tmp_path: Path) -> None:
    config = tiny_chat.project(tmp_path)
    first = numbers(json.loads(llmops("run", config, "--json")), "deploy")
    again = json.loads(
        llmops("run", config, "--json", "--set", "train.vocabulary=400", "--set", "need.accept.champion.no_worse_by=9")
    )
    second = numbers(again, "deploy")
    assert again["champion"] == 2
    assert first["champion"] is None
    # the old model's nats on the same rows, counted for each of the new model's tokens
    assert second["champion"] == pytest.approx(first["loss"] * first["tokens"] / second["tokens"], rel=0.02)
