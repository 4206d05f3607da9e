"""Need: counts and margins by their formulas, refusals with numbers, and a brief from real rows and a real probe."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops import tasks
from llmops.core.errors import DataError, MachineError
from llmops.core.protocols import Job, Task
from llmops.core.report import Report
from llmops.stages.need import adequacy, estimate
from llmops.stages.need.config import NeedSection, need_section
from llmops.stages.need.gatecheck import gate_mistakes
from llmops.stages.need.stage import NeedStage
from llmops.stages.prepare.config import PrepareSection
from llmops.stages.tune.config import TuneSection
from llmops.tasks.text_classification.baseline import score_rows, writes_without_spaces
from llmops.tasks.text_classification.config import TextAcceptSection, TextClassificationSection, TextTrainSection
from tests.cases_data import texts
from tests.rooms import FakeRoom, places_in
from tests.shared import SHARED
from tests.tiny import write_rows
from tests.unlabelled import QUESTIONS, RUNNING, TRAIN, WrittenAcceptSection, WrittenSection

TextNeed = need_section(TextAcceptSection)
WrittenNeed = need_section(WrittenAcceptSection)
TASK = tasks.find("text-classification")
BANKING = SHARED / "banking77"


def need_job(folder: Path, rows: int = 240, split: Any = None, tune: Any = None, **need: Any) -> Job:
    """A job of need on a small CSV."""
    write_rows(folder / "data.csv", rows)
    steps = [{"clean": {}}, {"split": split or {"valid": 0.2, "test": 0.2}}, {"augment": {"copies": 0.5}}]
    sections = {
        "need": TextNeed(probe_s=0.2, **need),
        "prepare": PrepareSection(sources=["data.csv"], steps=steps),
        "task": TextClassificationSection(),
        "train": TextTrainSection(model="bag-of-words", epochs=2, width=16, vocabulary=200, device="cpu"),
        **({"tune": TuneSection(**tune)} if tune else {}),
    }
    return Job("demo", sections, TASK, {}, FakeRoom(folder), places_in(folder), seed=1)


def brief_of(job: Job) -> dict[str, Any]:
    brief: dict[str, Any] = json.loads((job.room.out / "brief.json").read_text())
    return brief


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Report]:
    space = {"learning_rate": {"log": [1e-4, 1e-2]}, "batch_size": {"choice": [16, 64]}}
    accept = {"accuracy": {"at_least": 0.9}, "champion": {"no_worse_by": 0.005}}
    job = need_job(tmp_path_factory.mktemp("need"), accept=accept, tune={"space": space, "trials": 5})
    return job, NeedStage().run(job)


def test_the_brief_holds_gates_baseline_and_estimate(told: tuple[Job, Report]) -> None:
    job, report = told
    brief = brief_of(job)
    assert brief["accept"] == job.sections["need"].plain()["accept"]
    assert brief["baseline"]["metric"] == "accuracy"
    assert brief["baseline"]["valid"] > 0.8
    assert brief["baseline"]["test"] > 0.8
    figures = brief["estimate"]
    assert 0 < figures["epoch_s"] < figures["train_s"] < figures["train_s_upper"]
    assert figures["tune_s"] == pytest.approx(4 * figures["train_s"], rel=0.01, abs=0.003)  # rounded to milliseconds
    for name in ("peak_memory_mb", "parameters", "disk_mb"):
        assert figures[name] > 0
        assert report.numbers[name] == pytest.approx(figures[name])


def test_every_row_is_counted_once(told: tuple[Job, Report]) -> None:
    numbers = told[1].numbers
    assert numbers["classes"] == 3
    assert numbers["rows_train"] + numbers["rows_valid"] + numbers["rows_test"] == 240  # type: ignore[operator]


def test_gates_are_told_in_words_and_the_fine_margin_is_warned_of(told: tuple[Job, Report]) -> None:
    report = told[1]
    said = [row[0] for row in report.tables[0].rows]
    assert "accuracy at least 0.9" in said
    assert "not more than 0.005 worse than the champion on the same test rows" in said
    (warning,) = [line for line in report.warnings if "no_worse_by" in line]
    assert f"{report.numbers['rows_test']} test rows" in warning


def test_a_test_file_is_the_test_set_and_its_rows_leave_the_others(tmp_path: Path) -> None:
    write_rows(tmp_path / "test.csv", 60, seed=9)
    job = need_job(tmp_path, split={"valid": 0.2, "test_file": "test.csv"})
    with (tmp_path / "data.csv").open(newline="") as stream:
        twins = list(csv.reader(stream))[1:11]
    with (tmp_path / "test.csv").open("a", newline="") as stream:
        csv.writer(stream).writerows(twins)
    numbers = NeedStage().run(job).numbers
    assert numbers["rows_test"] == 70
    assert numbers["rows_train"] + numbers["rows_valid"] == 230  # type: ignore[operator]


@pytest.mark.parametrize(
    ("limit", "where"), [({"max_memory_mb": 1.0}, "need.max_memory_mb"), ({"max_hours": 1e-9}, "need.max_hours")]
)
def test_a_plan_that_cannot_fit_is_refused_with_the_numbers(
    tmp_path: Path, limit: dict[str, float], where: str
) -> None:
    job = need_job(tmp_path, 90, **limit)
    with pytest.raises(MachineError) as refusal:
        NeedStage().run(job)
    (mistake,) = refusal.value.mistakes
    assert mistake.where == where
    assert any(character.isdigit() for character in mistake.what)
    assert "train." in mistake.do
    assert not (job.room.out / "brief.json").exists()


def test_memory_and_disk_of_the_machine_are_limits_too() -> None:
    plan = {"peak_memory_mb": 500.0, "memory_limit_mb": 501.0, "train_s": 1.0, "tune_s": 0.0, "disk_mb": 50.0}
    estimate.refuse_what_cannot_fit(NeedSection(), plan, 51)
    small = plan | {"memory_limit_mb": 499.0}
    with pytest.raises(MachineError, match="this machine has 499 MB"):
        estimate.refuse_what_cannot_fit(NeedSection(max_memory_mb=1000), small, 51)
    with pytest.raises(MachineError) as refusal:
        estimate.refuse_what_cannot_fit(NeedSection(), small, 51, length="context")
    assert "`task.context`" in refusal.value.mistakes[0].do
    with pytest.raises(MachineError, match="49 MB are free"):
        estimate.refuse_what_cannot_fit(NeedSection(), plan, 49)


def test_tuning_takes_its_trials_or_its_budget() -> None:
    figures = {"train_s": 10.0, "epoch_s": 2.0}
    space = {"dropout": {"uniform": [0, 0.5]}}
    assert estimate.tuning_s(None, figures) == 0
    assert estimate.tuning_s(TuneSection(space=space, trials=4), figures) == 30
    assert estimate.tuning_s(TuneSection(space=space, trials=4, seconds=15), figures) == 17


def test_a_missing_file_is_the_datas_fault(tmp_path: Path) -> None:
    job = need_job(tmp_path)
    (tmp_path / "data.csv").unlink()
    with pytest.raises(DataError, match=r"data\.csv"):
        NeedStage().run(job)


@pytest.mark.parametrize(
    ("accept", "where", "what"),
    [
        ({"accuracy": {"at_least": 92}}, "need.accept.accuracy.at_least", "between 0 and 1"),
        ({"parity": {"at_least": -0.1}}, "need.accept.parity.at_least", "between 0 and 1"),
        ({"size_mb": {"at_most": -1}}, "need.accept.size_mb.at_most", "0 or more"),
        ({"f1_macro": {"at_least": 0.9, "at_most": 0.8}}, "need.accept.f1_macro", "at least 0.9 and at most 0.8"),
        ({"champion": {"no_worse_by": 5}}, "need.accept.champion.no_worse_by", "between 0 and 1"),
        ({"above_baseline": {"at_least": 2}}, "need.accept.above_baseline.at_least", "between -1 and 1"),
    ],
)
def test_gates_that_nothing_can_pass_are_mistakes(accept: dict[str, Any], where: str, what: str) -> None:
    sections = {"need": TextNeed(accept=accept), "task": TextClassificationSection()}
    (mistake,) = NeedStage().check(sections, TASK, places_in(Path("/nowhere")))
    assert mistake.where == where
    assert what in mistake.what
    assert mistake.do


def test_sensible_gates_are_no_mistake() -> None:
    accept = {"accuracy": {"at_least": 0.9}, "size_mb": {"at_most": 26}, "latency_p95_ms": {"at_most": 500}}
    sections = {"need": TextNeed(accept=accept), "task": TextClassificationSection()}
    assert NeedStage().check(sections, TASK, places_in(Path("/nowhere"))) == []


def test_a_tasks_gates_are_a_block_of_its_own() -> None:
    assert TextNeed is need_section(TextAcceptSection)
    assert TextNeed.__name__ == "NeedSection" and issubclass(TextNeed, NeedSection)
    assert TextNeed.__doc__ == NeedSection.__doc__
    assert TextNeed.model_fields["accept"].description == NeedSection.model_fields["accept"].description
    assert list(TextNeed.model_fields) == list(NeedSection.model_fields)
    assert TextNeed(accept={"f1_macro": {"at_least": 0.5}}).plain()["accept"]["f1_macro"]["at_least"] == 0.5
    with pytest.raises(ValidationError, match="Extra inputs"):
        WrittenNeed(accept={"f1_macro": {"at_least": 0.5}})


@pytest.mark.parametrize(
    ("gate", "bound", "metric", "inside"),
    [
        ("chrf", 101, "loss", "between 0 and 100"),
        ("perplexity", 0.9, "loss", "1 or more"),
        ("loss", -1, "loss", "0 or more"),
        ("recall_at_5", 5, "recall_at_1", "between 0 and 1"),
        ("above_baseline", 2, "mrr", "between -1 and 1"),
    ],
)
def test_every_figure_has_its_range(gate: str, bound: float, metric: str, inside: str) -> None:
    (mistake,) = gate_mistakes(gate, {"at_least": bound}, metric)
    assert inside in mistake.what


@pytest.mark.parametrize("gate", [("above_baseline", {"at_least": 2}), ("champion", {"no_worse_by": 1.5})])
def test_a_loss_may_fall_by_more_than_one(gate: tuple[str, dict[str, float]]) -> None:
    assert gate_mistakes(*gate, metric="loss") == []
    assert gate_mistakes(*gate, metric="accuracy") != []


def written_job(folder: Path, task: Task, accept: dict[str, Any] | None = None, **prepare: Any) -> Job:
    """A job of need on rows without labels."""
    sections = {
        "need": WrittenNeed(probe_s=0.1, accept=accept or {}),
        "prepare": PrepareSection(**prepare),
        "task": WrittenSection(),
        "train": TRAIN,
    }
    return Job("demo", sections, task, {}, FakeRoom(folder), places_in(folder), seed=1)


def test_running_text_is_foreseen_in_rows_and_characters(tmp_path: Path) -> None:
    content = "\n\n".join(f"Chapter {n}.\nAnd so it went on." for n in range(100))
    (tmp_path / "book.txt").write_text(content)
    job = written_job(tmp_path, RUNNING, sources=["book.txt"], steps=[{"split": {"by": "order", "test": 0}}])
    report = NeedStage().run(job)
    assert [report.numbers[f"rows_{split}"] for split in ("train", "valid", "test")] == [90, 10, 0]
    assert sum(int(report.numbers[f"characters_{split}"] or 0) for split in ("train", "valid", "test")) == len(content)
    assert "classes" not in report.numbers and "class" not in report.markdown("need")
    assert "reaches loss 2." in report.headline and report.headline.endswith(" (lower is better)")
    assert report.tables[1].title == "Rows and characters"
    assert any("no test row" in line for line in report.warnings)
    baseline = brief_of(job)["baseline"]
    assert baseline["metric"] == "loss" and 2 < baseline["valid"] < 4 and baseline["test"] is None
    assert brief_of(job)["estimate"]["tune_s"] == 0


def test_rough_gates_on_questions_are_warned_of(tmp_path: Path) -> None:
    rows = [{"question": f"{line}?", "answer": f"{line} yes"} for line in texts(80)]
    (tmp_path / "faq.json").write_text(json.dumps([*rows, {**rows[0], "answer": "no"}, rows[1]]))
    accept = {"recall_at_1": {"at_least": 0.8}, "champion": {"no_worse_by": 0.01}}
    report = NeedStage().run(written_job(tmp_path, QUESTIONS, accept, sources=["faq.json"]))
    assert sum(int(report.numbers[f"rows_{split}"] or 0) for split in ("train", "valid", "test")) == 81
    assert report.numbers["baseline_test"] == 1.0
    said = " ".join(report.warnings)
    assert "recall_at_1 near 0.8" in said and "no_worse_by 0.01 is finer" in said


@pytest.mark.parametrize(
    ("content", "steps", "what"),
    [
        ("One line.", [{"split": {"by": "order"}}], "validate on"),
        ("Short.\n\n" + "Long, very long. " * 9, [{"split": {"by": "order", "valid": 0.5, "test": 0.49}}], "train on"),
    ],
)
def test_too_little_text_is_refused(tmp_path: Path, content: str, steps: list[Any], what: str) -> None:
    (tmp_path / "book.txt").write_text(content)
    with pytest.raises(DataError, match=what):
        NeedStage().run(written_job(tmp_path, RUNNING, sources=["book.txt"], steps=steps))


def test_depends_on_the_files_and_the_gates(tmp_path: Path) -> None:
    job = need_job(tmp_path, split={"valid": 0.2, "test_file": "mine.csv"})
    depends = NeedStage().depends(job.sections, TASK, job.places)
    assert [path.name for path in depends.files] == ["data.csv", "mine.csv"]
    assert depends.settings["need"]["accept"]["parity"] == {"at_least": 0.98, "at_most": None}


@given(st.floats(0.5, 0.99), st.floats(0.005, 0.2))
def test_rows_for_a_margin_are_enough_and_not_too_many(share: float, margin: float) -> None:
    rows = adequacy.rows_for_margin(share, margin)
    assert adequacy.half_width(share, rows) <= margin
    assert rows == 1 or adequacy.half_width(share, rows - 1) > margin


@given(st.floats(0.5, 0.98), st.floats(0.002, 0.1), st.integers(20, 20_000))
def test_the_margin_warning_stops_at_the_rows_it_names(share: float, margin: float, rows: int) -> None:
    needed = adequacy.rows_for_difference(share, margin)
    assert adequacy.margin_warning(margin, share, needed + 1) is None
    assert (adequacy.margin_warning(margin, share, rows) is not None) == (rows < needed) or abs(rows - needed) <= 1


def test_the_example_of_the_brief_is_warned_of() -> None:
    said = adequacy.margin_warning(0.005, 0.9, 200)
    assert said is not None
    assert "4,000 test rows" in said
    assert "0.0224" in said
    zero = adequacy.margin_warning(0.0, 0.9, 200)
    assert zero is not None
    assert "no test set" in zero


def test_rows_wanted_follow_the_target() -> None:
    assert [adequacy.rows_wanted(target) for target in (0.5, 0.834, 0.85, 0.9, 0.93, 1.0)] == [10, 10, 30, 30, 130, 130]


def test_baseline_learns_scripts_without_spaces() -> None:
    dice = random.Random(1)
    good, bad = "房间干净服务好位置方便", "房间脏乱服务差噪音太大"
    rows = [{"text": "".join(dice.sample(words, 5)), "label": label} for words, label in [(good, "+"), (bad, "-")] * 60]
    assert writes_without_spaces([row["text"] for row in rows])
    assert not writes_without_spaces(["where is my parcel"])
    found = score_rows(rows[:80], {"test": rows[80:], "none": []}, "accuracy", ["+", "-"])
    assert found["none"] is None
    assert found["test"] is not None
    assert found["test"] > 0.85


def test_baseline_leaves_the_outside_label_out() -> None:
    rows = [{"text": word, "label": label} for word, label in [("parcel van", "a"), ("card money", "b")] * 20]
    strange = [{"text": "moon song", "label": "outside"}] * 40
    assert score_rows(rows + strange, {"test": rows + strange}, "accuracy", ["a", "b"])["test"] == 1.0
    with pytest.raises(DataError, match="fewer than two classes"):
        score_rows(rows[::2] + strange, {}, "accuracy", ["a", "b"])


@pytest.mark.prove
@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not on this machine")
def test_baseline_on_banking77_is_where_the_literature_has_it() -> None:
    splits = {}
    for split in ("train", "test"):
        with (BANKING / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            splits[split] = [{"text": text, "label": label} for text, label in list(csv.reader(stream))[1:]]
    labels = sorted({row["label"] for row in splits["train"]})
    found = score_rows(splits["train"], {"test": splits["test"]}, "accuracy", labels)["test"]
    assert found is not None
    assert 0.88 < found < 0.92
