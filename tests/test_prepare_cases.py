"""Every case of bad data ends in an error of the right kind that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llmops.core.errors import LlmopsError
from llmops.core.protocols import Job
from llmops.stages.prepare.config import PrepareSection
from llmops.stages.prepare.stage import PrepareStage
from llmops.tasks import find
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from tests.cases_data import CASES, Case
from tests.rooms import FakeRoom, places_in


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_data_is_explained(case: Case, tmp_path: Path) -> None:
    case.make(tmp_path)
    code, said = outcome(case, tmp_path)
    assert code == case.exit_code, said
    for word in case.words:
        assert word.lower() in said.lower()


def outcome(case: Case, root: Path) -> tuple[int, str]:
    """The exit code and the whole message of preparing the case's data."""
    try:
        prepare = PrepareSection.model_validate({"sources": ["data.csv"], **case.prepare})
    except ValidationError as error:
        return 3, str(error)
    sections = {
        "prepare": prepare,
        "task": TextClassificationSection(**case.task),
        "train": TextTrainSection(model="bag-of-words"),
    }
    task, places = find("text-classification"), places_in(root)
    mistakes = PrepareStage().check(sections, task, places)
    if mistakes:
        return 3, "\n".join(line for mistake in mistakes for line in mistake.lines())
    try:
        PrepareStage().run(Job("demo", sections, task, {}, FakeRoom(root / "room"), places, seed=0))
    except LlmopsError as error:
        for mistake in error.mistakes:
            assert mistake.where and mistake.do, f"{mistake.what} lacks where or do"
        return error.exit_code, "\n".join(line for mistake in error.mistakes for line in mistake.lines())
    return 0, "it went through"
