"""The feedback stage for tables: drift by the fields' kinds, another export named first, outcomes that come later."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.core.errors import DataError
from llmops.core.protocols import Job, Places
from llmops.core.report import Report
from llmops.fields.config import CleanStep
from llmops.fields.rows import Columned, noted
from llmops.records.traffic import TrafficLog
from llmops.records.trafficreader import TrafficReader
from llmops.registry import store
from llmops.stages.deploy.config import DeploySection
from llmops.stages.feedback import harvest
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.imports import import_file
from llmops.stages.feedback.stage import FeedbackStage
from llmops.stages.prepare.config import PrepareSection
from llmops.tasks.tabular import Tabular
from llmops.tasks.tabular.answers import ClassResponse, NumberResponse
from tests.rooms import FakeRoom, places_in

TASK = Tabular()
FIELDS = {"income": "number", "region": "category", "since": "date", "owner": "flag", "loan": "id"}
REGIONS = ("north", "south", "west")
STAY, GO = "stayed", "left"
DAY_S = 86_400.0
Row = dict[str, Any]


def people(count: int, seed: int) -> list[Row]:
    """Requests as clients send them."""
    dice = random.Random(seed)
    return [
        {
            "income": round(dice.lognormvariate(8, 0.5), 2),
            "region": dice.choices(REGIONS, (5, 3, 2))[0],
            "since": (date(2020, 1, 1) + timedelta(dice.randrange(2000))).isoformat(),
            "owner": dice.random() < 0.6,
        }
        for _ in range(count)
    ]


def leaves(row: Row) -> float:
    """The probability that somebody leaves, by the stand-in's rule."""
    return 0.9 if (row.get("income") or 0) < 2500 else 0.2


class StandIn:
    """A champion that answers by a rule: the codec and the predictor of a bundle."""

    one = None

    def __init__(self, numbers: bool) -> None:
        self.numbers, self.codec = numbers, self
        self.manifest = SimpleNamespace(cleaning=CleanStep().plain(), lineage={})

    def request(self, row: Row) -> Row:
        return row

    def answer_all(self, requests: Sequence[Row], batch: int) -> list[Any]:
        return list(map(self.answer, requests))

    def answer(self, row: Row) -> ClassResponse | NumberResponse:
        if self.numbers:
            value = 2.0 * (row.get("income") or 0)
            return NumberResponse(value=value, low=value, high=value, coverage=0.9)
        chance = leaves(row)
        best = GO if chance >= 0.5 else STAY
        return ClassResponse(
            label=best, probability=max(chance, 1 - chance), probabilities={STAY: 1 - chance, GO: chance}, score=0.0,
            reasons_for=GO,
        )  # fmt: skip


@dataclass
class Bank:
    """A project of a table: a data set, a champion that answers by a rule, and a traffic log."""

    root: Path
    settings: Row = field(default_factory=dict)
    of_task: Row = field(default_factory=dict)
    deploy: DeploySection = field(default_factory=DeploySection)
    steps: list[Row] = field(default_factory=lambda: [{"split": {}}])
    task: Tabular = TASK
    turns: int = 0

    def __post_init__(self) -> None:
        self.places: Places = places_in(self.root)
        self.dataset = self.root / "dataset"
        self.write_dataset(people(2000, 1), people(700, 2), people(700, 3))
        self.promote()

    @property
    def sections(self) -> Row:
        told = {"target": "churn", "fields": FIELDS, "id": "loan", **self.of_task}
        return {
            "task": TASK.section.model_validate(told),
            "prepare": PrepareSection.model_validate({"sources": ["rows.csv"], "steps": self.steps}),
            "deploy": self.deploy,
            "feedback": FeedbackSection(**self.settings),
        }

    @property
    def numbers(self) -> bool:
        return self.of_task.get("predict") == "number"

    def write_dataset(self, *splits: Sequence[Row]) -> None:
        self.dataset.mkdir(exist_ok=True)
        kinds = TASK.inputs(self.sections["task"])
        (self.dataset / "labels.json").write_text(json.dumps([STAY, GO]))
        for name, rows in zip(("train", "valid", "test"), splits, strict=True):
            read = {of: kind.column([kind.read(row.get(of)) for row in rows]) for of, kind in kinds.items()}
            columns = {of: kind.arrow(read[of]) for of, kind in kinds.items()}
            labels = [2.0 * row["income"] if self.numbers else GO if leaves(row) > 0.5 else STAY for row in rows]
            Columned(pa.table({**columns, noted("label"): labels})).write(self.dataset, name)

    def promote(self, harvest_rows: int = 0) -> None:
        bundle = self.root / f"bundle{harvest_rows}"
        bundle.mkdir()
        lineage = {"run": "r", "candidate": "float32", "harvest_rows": harvest_rows}
        about = {"task": "tabular", "task_version": 1, "cleaning": CleanStep().plain(), "lineage": lineage}
        bundle_format.write(bundle, about)
        store.promote(self.places.registry, bundle)

    def ask(self, rows: Iterable[Row], version: int = 1, at: Callable[[int], float] | None = None) -> list[str]:
        """Log requests as the server would; returns the ids that came with the answers."""
        model, keys = StandIn(self.numbers), []
        with TrafficLog(self.places.traffic / "traffic.db", 1e6, self.deploy.log_text, self.deploy.redact_log) as log:
            for index, row in enumerate(rows):
                answer = model.answer(row)
                keys.append(f"answer-{version}-{index}-{len(keys)}")
                log.record(
                    keys[-1], version=version, request=row, response=answer.plain(), label=answer.best,
                    probability=answer.probability, abstained=answer.abstained, latency_ms=1.0,
                    at=None if at is None else at(index), prose=True,
                )  # fmt: skip
        return keys

    def run(self) -> tuple[Report, Row]:
        self.turns += 1
        room = FakeRoom(self.root / f"room{self.turns}")
        job = Job("demo", self.sections, TASK, {"dataset": self.dataset}, room, self.places, seed=0)
        report = FeedbackStage().run(job)
        assert report.markdown("feedback")
        return report, json.loads((room.out / "verdict.json").read_text())

    def take(self, name: str, content: str) -> str:
        """Import a file."""
        path = self.root / name
        path.write_text(content, encoding="utf-8")
        return import_file(self, path)

    def harvested(self) -> list[Row]:
        labelled = {"kinds": TASK.inputs(self.sections["task"]), "labelled": True}
        return harvest.read(self.places.traffic / "harvest.jsonl", **labelled)


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    made = Bank(tmp_path)
    monkeypatch.setattr(Predictor, "open", lambda folder, threads: StandIn(made.numbers))
    return made


def table(report: Report, begins: str) -> list[Any]:
    """The rows of a table of the report; none where it is not there."""
    return next((found.rows for found in report.tables if found.title.startswith(begins)), [])


# --- drift -------------------------------------------------------------------------------------------------------


def test_traffic_like_the_data_set_is_quiet(bank: Bank) -> None:
    bank.ask(people(600, 9))
    report, verdict = bank.run()
    assert (verdict["due"], verdict["drift"]["fires"], verdict["drift"]["schema"]) == (False, False, []), verdict
    assert set(verdict["drift"]["tests"]) == {"labels", "confidence", "income", "region", "owner"}
    assert report.headline.startswith("no retrain is due: 0 new outcomes, no drift, 600 requests")


def test_quiet_traffic_stays_quiet_over_many_seeds(bank: Bank) -> None:
    """The alarm's level holds for all tests of a table together."""
    alarms = 0
    for seed in range(6):
        bank.ask(people(300, 200 + seed))
        alarms += bank.run()[1]["drift"]["fires"]
        (bank.places.traffic / "traffic.db").unlink()
    assert alarms <= 1


def test_a_moved_number_is_named(bank: Bank) -> None:
    bank.ask([{**row, "income": row["income"] * 1.6} for row in people(600, 9)])
    report, verdict = bank.run()
    fired = {name for name, found in verdict["drift"]["tests"].items() if found["fires"]}
    assert "income" in fired and not fired & {"region", "since", "owner"}, fired
    assert (verdict["due"], verdict["drift"]["schema"]) == (True, [])
    assert "income" in verdict["reasons"][0]
    [told] = [line for name, line in table(report, "What moved") if name == "income"]
    assert told.startswith("median ") and "->" in told


def test_a_moved_flag_is_named_and_time_may_pass(bank: Bank) -> None:
    later = [{**row, "since": "2026-03-01", "owner": index % 10 == 0} for index, row in enumerate(people(600, 9))]
    bank.ask(later)
    _, verdict = bank.run()
    fired = {name for name, found in verdict["drift"]["tests"].items() if found["fires"]}
    assert fired == {"owner"}


def test_a_new_category_is_named_first_and_learnt_from(bank: Bank) -> None:
    bank.ask([{**row, "region": "overseas"} if index % 4 == 0 else row for index, row in enumerate(people(600, 9))])
    report, verdict = bank.run()
    [found] = verdict["drift"]["schema"]
    assert (found["field"], found["broken"]) == ("region", False)
    assert "overseas" in report.headline and report.headline.index("overseas") < report.headline.index("retrain")
    assert "overseas" in report.warnings[0]
    assert report.tables[0].rows == [["region", found["told"], "look at it"]]
    assert verdict["due"] is True  # a new region may be the world's own


def test_another_unit_holds_a_retrain_back(bank: Bank) -> None:
    bank.settings = {"retrain_when": {"corrections": 1}}
    keys = bank.ask([{**row, "income": row["income"] * 100} for row in people(600, 9)])
    bank.take("outcomes.csv", f"id,outcome\n{keys[0]},{GO}\n")
    report, verdict = bank.run()
    [found] = verdict["drift"]["schema"]
    assert (found["field"], found["broken"]) == ("income", True)
    assert "100 times larger" in found["told"] and report.headline.startswith(found["told"])
    assert (verdict["due"], verdict["reasons"], report.next) == (False, [], [])
    assert any(reason.startswith("1 new outcomes") for reason in verdict["held_back"])
    assert report.tables[0].rows == [["income", found["told"], "mend the sender"]]


@pytest.mark.parametrize("name", ["income", "region", "since", "owner"])
def test_a_column_that_went_missing_is_named_first(bank: Bank, name: str) -> None:
    bank.ask([{of: value for of, value in row.items() if of != name} for row in people(600, 9)])
    report, verdict = bank.run()
    assert [(found["field"], found["broken"]) for found in verdict["drift"]["schema"]] == [(name, True)]
    assert report.headline.startswith(f"{name} went missing")
    assert verdict["due"] is False


def test_many_mistakes_at_once_are_all_named_the_broken_ones_first(bank: Bank) -> None:
    rows = [{**row, "income": row["income"] * 1000, "region": "overseas"} for row in people(600, 9)]
    bank.ask([{name: value for name, value in row.items() if name != "owner"} for row in rows])
    report, verdict = bank.run()
    fields = [(found["field"], found["broken"]) for found in verdict["drift"]["schema"]]
    assert fields == [("income", True), ("owner", True), ("region", False)]
    assert report.headline.index("overseas") > report.headline.index("went missing")


def test_a_few_new_values_are_no_schema_drift(bank: Bank) -> None:
    bank.ask([{**row, "region": "overseas"} if index % 50 == 0 else row for index, row in enumerate(people(600, 9))])
    _, verdict = bank.run()
    assert verdict["drift"]["schema"] == []


def test_rows_of_a_few_categories_are_counted_as_often_as_they_come(bank: Bank) -> None:
    """Nearly all rows of such a table have twins; each combination once would be a dozen rows, and hide every shift."""
    bank.of_task = {"fields": {"region": "category", "owner": "flag", "loan": "id"}}
    bank.write_dataset(people(2000, 1), people(700, 2), people(700, 3))
    bank.ask(people(400, 9))
    _, verdict = bank.run()
    assert (set(verdict["drift"]["tests"]), verdict["drift"]["fires"]) == (
        {"labels", "confidence", "region", "owner"}, verdict["drift"]["tests"]["labels"]["fires"],
    )  # fmt: skip
    assert not verdict["drift"]["tests"]["region"]["fires"]
    (bank.places.traffic / "traffic.db").unlink()
    bank.ask([{**row, "region": "west" if index % 2 else row["region"]} for index, row in enumerate(people(400, 9))])
    _, verdict = bank.run()
    assert verdict["drift"]["tests"]["region"]["fires"]


def test_a_request_sent_over_and_over_is_no_drift(bank: Bank) -> None:
    again = {**people(1, 77)[0], "loan": "L1"}
    for steps in ([{"split": {}}], [{"dedup": {"near": None}}, {"split": {}}]):
        bank.steps = steps
        bank.ask(people(200, 9) + [again] * 400)
        _, verdict = bank.run()
        assert verdict["drift"]["fires"] is False, verdict
        (bank.places.traffic / "traffic.db").unlink()


def test_numbers_are_compared_and_measured_too(bank: Bank) -> None:
    bank.of_task = {"predict": "number"}
    bank.write_dataset(people(2000, 1), people(700, 2), people(700, 3))
    rows = people(300, 9)
    keys = bank.ask(rows)
    lines = "".join(f"{key},{2 * row['income'] + 10:.2f}\n" for key, row in zip(keys, rows[:50], strict=False))
    bank.take("outcomes.csv", "id,churn\n" + lines)
    report, verdict = bank.run()
    assert "answers" in verdict["drift"]["tests"] and not verdict["drift"]["fires"]
    assert report.numbers["estimated_mae"] == pytest.approx(10, abs=0.02)
    assert report.numbers["estimated_mae_low"] <= 10.02
    assert all(isinstance(row["label"], float) for row in bank.harvested())


# --- outcomes ----------------------------------------------------------------------------------------------------


def owned(count: int, seed: int) -> list[Row]:
    """Requests that bring their own id."""
    return [{**row, "loan": f"L-{index:04}"} for index, row in enumerate(people(count, seed))]


def came_true(row: Row, index: int) -> str:
    """What the stand-in says is true of nine in ten."""
    said = GO if leaves(row) > 0.5 else STAY
    return said if index % 10 else (STAY if said == GO else GO)


@pytest.mark.parametrize("columns", ["id,outcome", "loan,outcome", "loan,churn", "id,churn", "id,correction"])
def test_outcomes_by_id_become_judged_rows(bank: Bank, columns: str) -> None:
    rows = owned(200, 9)
    bank.ask(rows)
    lines = [f"{row['loan']},{came_true(row, index)}\n" for index, row in enumerate(rows[:100])]
    file = columns + "\n" + "".join(lines)
    assert bank.take("outcomes.csv", file) == (
        "imported 100 rows of outcomes.csv; 0 were there already; outcomes of answers: 100 of version 1"
    )
    assert bank.take("outcomes.csv", file).startswith("imported 0 rows of outcomes.csv; 100 were there already")
    with TrafficReader(bank.places.traffic / "traffic.db") as log:
        judged = log.judged()
    assert [row.correction for row in judged] == [came_true(row, index) for index, row in enumerate(rows[:100])]
    report, verdict = bank.run()
    assert report.numbers["estimated_accuracy"] == pytest.approx(0.9)
    assert report.numbers["estimated_roc_auc"] > 0.8
    assert (verdict["corrections_new"], report.numbers["judged"]) == (100, 100)
    made = bank.harvested()
    assert {row["label"] for row in made} == {GO, STAY} and set(made[0]) >= {"income", "region", "since", "owner"}
    assert "loan" not in made[0]


def test_outcomes_by_the_answers_id(bank: Bank) -> None:
    keys = bank.ask(people(50, 9))
    lines = "".join(f"{key},{GO}\n" for key in keys)
    assert bank.take("a.csv", "id,outcome\n" + lines).startswith("imported 50 rows of a.csv; 0 were there already")


def test_quality_is_told_week_by_week_and_version_by_version(bank: Bank) -> None:
    bank.deploy = DeploySection(keep_traffic_days=3000)
    history = bank.places.registry / "history.jsonl"
    line = json.loads(history.read_text())
    history.write_text(json.dumps({**line, "at": "2026-01-01T00:00:00+00:00"}) + "\n")
    rows = owned(200, 9)
    since = datetime(2026, 2, 4, tzinfo=UTC).timestamp()  # a Wednesday
    bank.ask(rows, at=lambda index: since + (index // 50) * 7 * DAY_S)
    old = [{**row, "loan": f"old-{row['loan']}"} for row in owned(40, 5)]
    bank.ask(old, version=7, at=lambda index: since)
    wrong_from = 100
    told = [(row["loan"], came_true(row, 1 if at < wrong_from else 10 * at)) for at, row in enumerate(rows)]
    told += [(row["loan"], came_true(row, 1)) for row in old]
    said = bank.take("o.csv", "loan,outcome\n" + "".join(f"{own},{what}\n" for own, what in told))
    assert said.endswith("outcomes of answers: 200 of version 1, 40 of version 7")
    report, _ = bank.run()
    weeks = table(report, "Quality by the week")
    assert [row[:3] for row in weeks] == [
        ["2026-02-02", 50, 1.0], ["2026-02-09", 50, 1.0], ["2026-02-16", 50, 0.0], ["2026-02-23", 50, 0.0],
    ]  # fmt: skip
    assert [row[:3] for row in table(report, "Quality by version")] == [["version 1", 200, 0.5], ["version 7", 40, 1.0]]
    assert any(curve.title == "accuracy of answers by week" for curve in report.curves)


def test_rows_without_an_outcome_wait_and_unknown_ids_are_told(bank: Bank) -> None:
    bank.ask(owned(30, 9))
    said = bank.take("o.csv", f"loan,outcome\nL-0000,{GO}\nL-0001,\nL-9999,{GO}\nanna@example.org,{STAY}\n")
    assert said == (
        "imported 1 row of o.csv; 0 were there already; 2 ids are not in the log (any more) (requests are kept for 30 "
        "days: deploy.keep_traffic_days; 1 of them look like personal data, which the log redacts: deploy.redact_log); "
        "outcomes of answers: 1 of version 1; 1 row without an outcome yet"
    )


def test_requests_that_are_too_old_are_not_known_any_more(bank: Bank) -> None:
    """The log forgets them as soon as it is opened, be it a moment before or after an id is looked for."""
    bank.ask(owned(300, 9), at=lambda index: time.time() - (40 if index else 0) * DAY_S)
    said = bank.take("o.csv", "loan,outcome\n" + "".join(f"L-{index:04},{GO}\n" for index in range(300)))
    assert said == (
        "imported 1 row of o.csv; 0 were there already; 299 ids are not in the log (any more) (requests are kept for "
        "30 days: deploy.keep_traffic_days); outcomes of answers: 1 of version 1"
    )


def test_ids_that_stand_twice_are_told_and_the_last_word_counts(bank: Bank) -> None:
    bank.ask([*owned(30, 9), {**owned(1, 9)[0], "income": 1.0}])  # L-0000 was asked about again
    file = f"loan,outcome\nL-0001,{GO}\nL-0001,{STAY}\nL-0000,{GO}\n"
    said = bank.take("o.csv", file)
    assert said == (
        "imported 2 rows of o.csv; 0 were there already; 1 row spoke of the same as another: the last counts; "
        "1 ids were asked about more than once: the newest; outcomes of answers: 2 of version 1"
    )
    assert bank.take("o.csv", file).startswith("imported 0 rows of o.csv; 2 were there already")
    bank.run()
    assert sorted((row["income"] == 1.0, row["label"]) for row in bank.harvested()) == [(False, STAY), (True, GO)]


@pytest.mark.parametrize(
    ("name", "content", "said", "where"),
    [
        ("a.csv", f"loan,outcome\nL-0001,{GO}\n,{GO}\n \t,{STAY}\n", "the loan is missing", "a.csv:3"),
        ("b.csv", f"loan,outcome\nX,{GO}\nY,{GO}\n", "the traffic log knows none of the 2 ids", "b.csv:2"),
        ("c.csv", "loan,outcome\nL-0001,\n", "has no rows with an outcome", "c.csv"),
        ("d.csv", "name,age\nAnna,7\n", "no columns that feedback is made of; it has name, age", "d.csv:1"),
        ("e.csv", "id,rating\nL-0001,five\n", "the rating is `five`", "e.csv:2"),
        ("f.jsonl", '{"loan": ["L-0001"], "outcome": "left"}\n', "loan: more than one value", "f.jsonl:1"),
        ("g.jsonl", '{"loan": "L-0001", "outcome": {"a": 1}}\n', "outcome: more than one value", "g.jsonl:1"),
        ("h.csv", f"income,region,since,owner,churn\nmuch,north,,,{GO}\n", "income: not a number", "h.csv:2"),
        ("i.csv", "loan,outcome\n", "has no rows", "i.csv"),
    ],
)
def test_bad_outcomes_are_told_with_their_lines(bank: Bank, name: str, content: str, said: str, where: str) -> None:
    bank.ask(owned(5, 9))
    with pytest.raises(DataError) as told:
        bank.take(name, content)
    mistakes = told.value.mistakes
    assert any(said in mistake.what for mistake in mistakes), mistakes
    assert any(where in mistake.where for mistake in mistakes), mistakes
    assert all("Traceback" not in line for mistake in mistakes for line in mistake.lines())
    with TrafficReader(bank.places.traffic / "traffic.db") as log:
        assert log.judged() == []


def test_an_outcome_that_is_no_number_is_told(bank: Bank) -> None:
    bank.of_task = {"predict": "number"}
    bank.ask(owned(5, 9))
    with pytest.raises(DataError, match="1 bad row") as told:
        bank.take("o.csv", "loan,outcome\nL-0001,12.5\nL-0002,plenty\n")
    assert told.value.mistakes[1].what == "outcome: not a number"


def test_whole_rows_with_their_outcome_are_learnt_from(bank: Bank) -> None:
    bank.ask(owned(3, 9))
    head = "loan,income,region,since,owner,churn\n"
    said = bank.take("more.csv", f"{head}N-1,100,north,2020-01-02,yes,{GO}\nL-0001,1,south,2020-01-02,no,{STAY}\n")
    assert said == (
        "imported 2 rows of more.csv; 0 were there already; outcomes of answers: 1 of version 1; 1 whole rows"
    )
    report, _ = bank.run()
    assert report.numbers["judged"] == 1  # nobody asked the server about the other
    assert {(str(row["income"]), row["label"]) for row in bank.harvested()} == {
        ("100", GO), (str(owned(3, 9)[1]["income"]), STAY),
    }  # fmt: skip


def test_people_who_are_alike_keep_their_own_outcomes(bank: Bank) -> None:
    """Two people who agree in all fields are two; the harvest holds both, and never one of the test set."""
    twin = people(1, 50)[0]
    tested = people(700, 3)[0]
    keys = bank.ask([twin, twin, tested])
    lines = "".join(f"{key},{what}\n" for key, what in zip(keys, (GO, STAY, GO), strict=True))
    bank.take("o.csv", "id,outcome\n" + lines)
    report, _ = bank.run()
    assert sorted(row["label"] for row in bank.harvested()) == sorted([GO, STAY])
    assert report.numbers["harvest_in_test"] == 1


def test_a_log_without_contents_takes_outcomes_by_the_answers_ids_alone(bank: Bank) -> None:
    bank.deploy = DeploySection(log_text=False)
    keys = bank.ask(owned(20, 9))
    assert bank.take("o.csv", f"id,outcome\n{keys[0]},{GO}\n").startswith("imported 1 row")
    with pytest.raises(DataError, match="only the ids that came with the answers are known"):
        bank.take("p.csv", f"loan,outcome\nL-0001,{GO}\n")
    with pytest.raises(DataError, match="keeps no contents"):
        bank.take("q.csv", f"income,region,since,owner,churn\n1,north,2020-01-02,yes,{GO}\n")
    report, _ = bank.run()
    assert report.numbers["judged"] == 1 and bank.harvested() == []
    assert any("whose contents the log did not keep" in warning for warning in report.warnings)


def test_a_champion_that_learned_of_a_shift_is_left_in_peace(bank: Bank) -> None:
    bank.settings = {"retrain_when": {"corrections": None}}
    moved = [{**row, "income": row["income"] * 1.6} for row in owned(400, 9)]
    bank.ask(moved)
    lines = "".join(f"{row['loan']},{GO if leaves(row) > 0.5 else STAY}\n" for row in moved)
    bank.take("o.csv", "loan,outcome\n" + lines)
    assert bank.run()[1]["due"] is True
    time.sleep(1.1)  # the registry's history counts in seconds
    bank.promote(harvest_rows=len(bank.harvested()))
    bank.ask([{**row, "income": row["income"] * 1.6} for row in people(400, 10)], version=2)
    _, verdict = bank.run()
    assert (verdict["drift"]["known"], verdict["due"]) == (True, False), verdict
