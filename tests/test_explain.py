"""explain and schema: every task's own blocks and gates are told, and what all tasks share is told once."""

from __future__ import annotations

import json

import pytest

from llmops.commands.explain import explain_key, json_schema
from llmops.core.errors import UsageError
from llmops.tasks import TASKS, find


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_gates_of_a_task_are_told(name: str) -> None:
    said = explain_key("need.accept", name)
    for gate in find(name).accept_section.model_fields:
        assert f"\n{gate}: " in said
    assert name in json.dumps(json_schema())


def test_what_all_tasks_share_is_told_once() -> None:
    assert explain_key("prepare").count("prepare") == explain_key("prepare", next(iter(TASKS))).count("prepare")
    assert explain_key("need.accept.champion.no_worse_by").count("no_worse_by") == 1


def test_what_one_task_has_is_told_under_its_name() -> None:
    said = explain_key("train.word_dropout")
    assert "word_dropout" in said
    if len(TASKS) > 1:
        assert said.startswith("task: {name: text-classification}\n")


@pytest.mark.parametrize(("key", "task", "do"), [("trian", None, "`train`"), ("train", "singing", "take one of")])
def test_what_does_not_exist_has_a_hint(key: str, task: str | None, do: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain_key(key, task)
    assert do in caught.value.mistakes[0].do


def test_a_number_or_a_word_is_told_with_the_numbers_bounds() -> None:
    assert "train.batch_size: whole number (>= 1, <= 65536) | auto, default 32" in explain_key("train.batch_size")
