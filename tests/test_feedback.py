"""The feedback stage on a real log, a real registry and a real (small) ONNX bundle."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmops import tasks
from llmops.core.errors import DataError
from llmops.core.protocols import Job, Judged, Places
from llmops.core.report import Report
from llmops.fields.rows import Listed
from llmops.records.traffic import TrafficLog, new_id
from llmops.registry import store
from llmops.stages.deploy.config import DeploySection
from llmops.stages.feedback import harvest
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.imports import import_file
from llmops.stages.feedback.quality import is_right
from llmops.stages.feedback.stage import FeedbackStage
from llmops.stages.prepare.config import PrepareSection
from llmops.tasks.base import TEXT
from tests.rooms import FakeRoom, places_in
from tests.standin import LABELS, make_bundle

ROOT = Path(__file__).parent.parent
FILLER = "please where is my the a so late again today and why can you help with it now soon home shop order".split()
STRANGE = "locker pickup station code machine compartment screen barcode overnight kiosk".split()


def sentence(label: str, dice: random.Random) -> str:
    picked = [label, *dice.sample(FILLER, 5)]
    dice.shuffle(picked)
    return " ".join(picked)


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Distinct (text, label) pairs."""
    dice, made = random.Random(seed), {}
    while len(made) < count:
        label = LABELS[len(made) % len(LABELS)]
        made[sentence(label, dice)] = label
    return list(made.items())


def strange(count: int, seed: int) -> list[tuple[str, str]]:
    """Requests of a kind that the data set has never seen; the stand-in is unsure of them."""
    dice = random.Random(seed)
    return [(" ".join(dice.sample(STRANGE, 4) + dice.sample(FILLER, 2)), "locker") for _ in range(count)]


@dataclass
class Shop:
    """A project with a champion, a data set and a traffic log."""

    root: Path
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        self.places: Places = places_in(self.root)
        self.task = tasks.find("text-classification")
        self.dataset = self.root / "dataset"
        self.rows = sentences(900, 1)
        self.turns, self.takes_harvest = 0, True
        self.write_dataset(self.rows[:300], self.rows[300:450], self.rows[450:600])

    @property
    def sections(self) -> dict[str, Any]:
        prepare = PrepareSection(sources=["data.csv"], feedback=self.takes_harvest)
        feedback = FeedbackSection(**self.settings)
        return {"task": self.task.section(), "prepare": prepare, "deploy": DeploySection(), "feedback": feedback}

    def write_dataset(self, *splits: Sequence[tuple[str, str]]) -> None:
        self.dataset.mkdir(exist_ok=True)
        (self.dataset / "labels.json").write_text(json.dumps(LABELS))
        for name, rows in zip(("train", "valid", "test"), splits, strict=True):
            lines = [json.dumps({"id": str(at), "text": text, "label": label}) for at, (text, label) in enumerate(rows)]
            (self.dataset / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))

    def promote(self, harvest_rows: int = 0) -> int:
        lineage = {"run": "r", "candidate": "float32", "harvest_rows": harvest_rows}
        bundle = make_bundle(self.root / f"bundle{harvest_rows}", lineage=lineage)
        return store.promote(self.places.registry, bundle)

    def send(self, rows: Sequence[tuple[str, str]], version: int = 1, corrected: int = 0) -> None:
        """Log the rows as the server would, answered by the stand-in's rule; the first ones get a correction."""
        with TrafficLog(self.places.traffic / "traffic.db") as log:
            for index, (text, label) in enumerate(rows):
                best = next((known for known in LABELS if known in text.split()), LABELS[0])
                sure = best in text.split()
                key = new_id()
                log.record(
                    key, version=version, request={"text": text}, response={}, label=best,
                    probability=0.9975 if sure else 1 / 3, abstained=not sure, latency_ms=1.0,
                )  # fmt: skip
                if index < corrected:
                    log.feedback(key, rating=-1, correction=label)

    def run(self) -> tuple[Report, dict[str, Any]]:
        self.turns += 1
        room = FakeRoom(self.root / f"room{self.turns}")
        inputs = {"dataset": self.dataset, "bundle": self.root / "bundle0"}
        job = Job("demo", self.sections, self.task, inputs, room, self.places, seed=0)
        report = FeedbackStage().run(job)
        assert report.markdown("feedback")
        return report, json.loads((room.out / "verdict.json").read_text())

    def depends(self) -> Any:
        return FeedbackStage().depends(self.sections, self.task, self.places)

    def harvested(self) -> list[dict[str, Any]]:
        return harvest.read(self.places.traffic / "harvest.jsonl", TEXT, labelled=True)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, {})


def test_nothing_is_deployed_yet(shop: Shop) -> None:
    report, verdict = shop.run()
    assert verdict["due"] is False
    assert "nothing is deployed yet" in report.headline
    assert not (shop.places.traffic / "harvest.jsonl").exists()  # an empty one would make prepare work again


def test_no_traffic_yet(shop: Shop) -> None:
    shop.promote()
    report, verdict = shop.run()
    assert (verdict["due"], verdict["champion"], report.numbers["requests"]) == (False, 1, 0)
    assert "there is no traffic yet" in report.headline


def test_quiet_traffic_is_not_due(shop: Shop) -> None:
    shop.promote()
    shop.send(shop.rows[600:900])
    report, verdict = shop.run()
    assert verdict["due"] is False, verdict
    assert (report.numbers["requests"], report.numbers["drift"], report.next) == (300, False, [])
    assert set(verdict["drift"]["tests"]) == {"labels", "confidence", "unknown words", "texts"}


def test_a_shift_is_drift_and_due(shop: Shop) -> None:
    shop.promote()
    shop.send(shop.rows[600:750] + strange(60, 1))
    report, verdict = shop.run()
    assert verdict["due"] is True
    assert verdict["drift"]["fires"] is True
    assert verdict["reasons"][0].startswith("the traffic has drifted: ")
    assert report.next == ["llmops run CONFIG --if-due"]
    tables = {table.title: table for table in report.tables}
    told: dict[Any, list[str]] = {}
    for test, line in tables["What moved"].rows:
        told.setdefault(test, []).append(str(line))
    moved = {line.split()[0] for line in told["unknown words"]}
    assert len(moved & set(STRANGE)) >= 5
    assert len(told["texts"]) == 5
    assert all(set(STRANGE) & set(line.split()) for line in told["texts"])  # those least like the held-out rows


def test_drift_can_be_switched_off(shop: Shop) -> None:
    shop.settings = {"retrain_when": {"drift": False}}
    shop.promote()
    shop.send(shop.rows[600:750] + strange(60, 1))
    report, verdict = shop.run()
    assert (verdict["due"], report.numbers["drift"]) == (False, True)


def test_few_requests_say_nothing_about_drift(shop: Shop) -> None:
    shop.promote()
    shop.send(strange(60, 1))
    report, verdict = shop.run()
    assert verdict["drift"] == {"fires": False, "known": False, "schema": [], "tests": {}}
    assert any("60 requests are too few" in warning for warning in report.warnings)


def test_one_question_asked_over_and_over_is_no_drift(shop: Shop) -> None:
    shop.promote()
    shop.send(shop.rows[600:800] + strange(1, 1) * 400)
    _, verdict = shop.run()
    assert verdict["drift"]["fires"] is False


def test_a_question_of_another_version_is_not_the_champions(shop: Shop) -> None:
    shop.promote()
    shop.send(strange(200, 1), version=7)
    report, verdict = shop.run()
    assert (report.numbers["requests"], verdict["due"]) == (0, False)


def test_a_champion_that_learned_of_a_shift_is_left_in_peace(shop: Shop) -> None:
    shop.settings = {"retrain_when": {"corrections": None}}
    shop.promote()
    shop.send(shop.rows[600:700] + strange(100, 1), corrected=200)
    _, verdict = shop.run()
    assert verdict["due"] is True
    learned = len(shop.harvested())
    time.sleep(1.1)  # the registry's history counts in seconds
    assert shop.promote(harvest_rows=learned) == 2
    shop.send(shop.rows[700:800] + strange(100, 2), version=2)
    report, verdict = shop.run()
    assert verdict["drift"]["known"] is True
    assert verdict["due"] is False, verdict
    assert any("learned through corrections" in warning for warning in report.warnings)
    unheard = [(f"wholly other things happen number {at} in {at} gardens", "garden") for at in range(150)]
    shop.send(unheard, version=2)
    _, verdict = shop.run()
    assert verdict["due"] is True


def test_corrections_become_rows_once(shop: Shop) -> None:
    shop.settings = {"retrain_when": {"corrections": 40, "drift": False}}
    shop.promote()
    shop.send(shop.rows[600:639], corrected=39)
    _, verdict = shop.run()
    assert (verdict["due"], verdict["corrections_new"]) == (False, 39)
    shop.send(shop.rows[600:640], corrected=40)  # 39 of them again
    report, verdict = shop.run()
    assert (verdict["due"], verdict["corrections_new"]) == (True, 40)
    assert verdict["reasons"] == ["40 new corrections (corrections: 40)"]
    rows = shop.harvested()
    assert {(row["text"], row["label"]) for row in rows} == set(shop.rows[600:640])
    assert set(rows[0]) == {"id", "text", "label", "at", "request_id"}
    assert report.numbers["harvest_added"] == 1


def test_corrections_that_were_learned_are_not_new(shop: Shop) -> None:
    shop.settings = {"retrain_when": {"corrections": 30}}
    shop.promote(harvest_rows=25)
    shop.send(shop.rows[600:650], corrected=50)
    _, verdict = shop.run()
    assert (verdict["corrections_new"], verdict["due"]) == (25, False)


def test_test_rows_are_never_harvested(shop: Shop) -> None:
    shop.promote()
    own = shop.rows[450:460]
    in_disguise = [(f"  {text.upper()}!! ", label) for text, label in own[:5]]
    shop.send([*own[5:], *in_disguise, *shop.rows[600:603]], corrected=13)
    report, _ = shop.run()
    assert not (shop.places.traffic / "preferences.jsonl").exists()  # labels make no pairs
    assert {row["text"] for row in shop.harvested()} == {text for text, _ in shop.rows[600:603]}
    assert report.numbers["harvest_in_test"] == 10


def test_a_test_row_with_personal_data_is_recognised_though_the_log_redacts() -> None:
    said = judged("mail me at <email> please", "card")
    found = gather([], [said], ["Mail me at anna@example.org, please"])
    assert (found.rows, found.in_test) == ([], 1)


TASK = tasks.find("text-classification")


def gather(before: list[dict[str, Any]], said: list[Judged], test_texts: list[str]) -> harvest.Harvest:
    test = Listed([{"text": text} for text in test_texts])
    return harvest.gather(before, said, test, harvest.Rule.of(TASK, TASK.section()))


def judged(text: str | None, correction: str | None, said_at: float = 1.0, **more: Any) -> Judged:
    fields = {"label": "card", "abstained": False, "source": "http", "rating": None, **more}
    request = None if text is None else {"text": text}
    return Judged(id=new_id(), at=0.0, version=1, request=request, correction=correction, said_at=said_at, **fields)


def test_the_latest_correction_of_a_text_wins_and_rows_stay() -> None:
    first = gather([], [judged("One two", "card", 1.0), judged("three", "refund", 2.0)], [])
    again = gather(first.rows, [judged("one TWO!", "parcel", 3.0), judged("three", "card", 1.5)], [])
    assert [(row["text"], row["label"]) for row in again.rows] == [("one TWO!", "parcel"), ("three", "refund")]
    assert (first.added, again.added) == (2, 0)
    assert again.learned_until(1) == 3.0
    assert again.new_labels(["card", "refund"]) == [("parcel", 1)]


def test_thumbs_and_empty_texts_make_no_rows() -> None:
    found = gather([], [judged("fine", None, rating=1), judged(None, "card"), judged(" ", "card")], [])
    assert (found.rows, found.without_contents) == ([], 2)


def test_texts_with_odd_line_breaks_stay_one_row(tmp_path: Path) -> None:
    path = tmp_path / "harvest.jsonl"
    text = "one\u2028two\u0085three\nfour"
    rows = gather([], [judged(text, "card")], []).rows
    harvest.write(path, rows)
    assert len(path.read_text().splitlines()) == 1
    assert harvest.read(path, TEXT, labelled=True) == rows


@pytest.mark.parametrize("line", ["{", '{"text": "a"}', '{"text": 1, "label": "a", "at": 1}', "[]", '"a"'])
def test_a_broken_harvest_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "harvest.jsonl"
    path.write_text('{"text": "a", "label": "b", "at": 1}\n' + line + "\n")
    with pytest.raises(DataError, match="no row of the harvest") as told:
        harvest.read(path, TEXT, labelled=True)
    assert told.value.mistakes[0].where == f"{path}:2"


def test_the_champions_age_is_a_trigger(shop: Shop) -> None:
    shop.settings = {"retrain_when": {"every": "30d"}}
    shop.promote()
    _, verdict = shop.run()
    young = shop.depends()
    assert verdict["due"] is False
    history = shop.places.registry / "history.jsonl"
    line = json.loads(history.read_text())
    history.write_text(json.dumps({**line, "at": "2026-01-01T00:00:00+00:00"}) + "\n")
    report, verdict = shop.run()
    assert verdict["due"] is True
    assert "days old (every: 30d)" in report.headline
    assert shop.depends() != young


def test_estimated_accuracy_counts_what_users_said(shop: Shop) -> None:
    shop.promote()
    with TrafficLog(shop.places.traffic / "traffic.db") as log:
        for label, rating, correction, abstained in (
            ("card", 1, None, False), ("card", -1, None, False), ("card", -1, "refund", False),
            ("card", None, "card", False), ("card", None, "refund", True), ("card", None, None, False),
        ):  # fmt: skip
            key = new_id()
            log.record(
                key, version=1, request={"text": f"text {key}"}, response=None, label=label, probability=0.9,
                abstained=abstained, latency_ms=1.0,
            )  # fmt: skip
            if rating or correction:
                log.feedback(key, rating, correction)
    report, _ = shop.run()
    numbers = report.numbers
    assert (numbers["requests"], numbers["rated"], numbers["corrections"], numbers["judged"]) == (6, 3, 3, 4)
    assert numbers["estimated_accuracy"] == 0.5
    assert numbers["abstained_share"] == pytest.approx(1 / 6)
    assert any("users mostly speak up about wrong ones" in warning for warning in report.warnings)
    [pairs] = [table for table in report.tables if table.title.startswith("Answers that users corrected")]
    assert pairs.rows == [["card", "refund", 1]]


def test_a_correction_weighs_more_than_a_thumb() -> None:
    assert is_right(judged("a", "card")) is True
    assert is_right(judged("a", "refund", rating=1)) is False


def test_an_unchanged_log_is_no_new_work(shop: Shop) -> None:
    shop.promote()
    empty = shop.depends()
    assert empty == shop.depends()
    shop.send(shop.rows[600:610])
    some = shop.depends()
    assert some != empty
    assert some == shop.depends()
    shop.send(shop.rows[610:612], corrected=1)
    more = shop.depends()
    assert more != some
    shop.run()
    kept = shop.depends()
    (shop.places.traffic / "harvest.jsonl").unlink()
    assert shop.depends() != kept  # a deleted harvest is gathered again


def test_a_damaged_log_is_told_by_run_alone(shop: Shop) -> None:
    shop.promote()
    shop.places.traffic.mkdir(parents=True)
    (shop.places.traffic / "traffic.db").write_bytes(b"what a pity " * 999)
    assert shop.depends() == shop.depends()
    with pytest.raises(DataError, match="damaged"):
        shop.run()


def test_a_log_without_texts_still_gives_answers(shop: Shop) -> None:
    shop.promote()
    with TrafficLog(shop.places.traffic / "traffic.db", keep_text=False) as log:
        for index in range(200):
            log.record(
                new_id(), version=1, request={"text": "secret"}, response=None, label=LABELS[index % 3],
                probability=0.997, abstained=False, latency_ms=1.0,
            )  # fmt: skip
    report, verdict = shop.run()
    assert set(verdict["drift"]["tests"]) == {"labels", "confidence"}
    assert any("keeps no contents" in warning for warning in report.warnings)


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_import_of_texts_and_labels(shop: Shop, tmp_path: Path) -> None:
    shop.settings = {"retrain_when": {"corrections": 2}}
    shop.promote()
    file = write(tmp_path / "more.csv", "text,label\nhow do I reach anna@example.org,card\nwhere is it?,parcel\n")
    assert import_file(shop, file) == "imported 2 rows of more.csv; 0 were there already"
    assert import_file(shop, file) == "imported 0 rows of more.csv; 2 were there already"
    report, verdict = shop.run()
    assert (verdict["due"], report.numbers["requests"]) == (True, 0)  # nobody asked the server
    assert {(row["text"], row["label"]) for row in shop.harvested()} == {
        ("how do I reach <email>", "card"), ("where is it?", "parcel"),
    }  # fmt: skip


def test_import_about_logged_requests(shop: Shop, tmp_path: Path) -> None:
    shop.promote()
    with TrafficLog(shop.places.traffic / "traffic.db") as log:
        keys = [new_id() for _ in range(3)]
        for key in keys:
            log.record(
                key, version=1, request={"text": f"text {key}"}, response=None, label="card", probability=0.9,
                abstained=False, latency_ms=1.0,
            )  # fmt: skip
    said_of_them = [{"rating": 1}, {"rating": -1, "correction": "refund"}, {"rating": 1}]
    rows = [{"id": key, **said} for key, said in zip([*keys[:2], "gone"], said_of_them, strict=True)]
    file = write(tmp_path / "said.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    said = import_file(shop, file)
    assert said == "imported 2 rows of said.jsonl; 0 were there already; 1 ids are not in the log (any more)"
    report, _ = shop.run()
    assert (report.numbers["rated"], report.numbers["corrections"], report.numbers["estimated_accuracy"]) == (2, 1, 0.5)
    assert [row["label"] for row in shop.harvested()] == ["refund"]


@pytest.mark.parametrize(
    ("name", "content", "said", "where"),
    [
        ("a.csv", "text,label\nhello,card\n,card\nbye,\n", "2 bad rows", "a.csv:3"),
        ("b.csv", "id,rating\nx,1\ny,five\n", "the rating is `five`", "b.csv:3"),
        ("c.csv", "id,rating,correction\nx,,\n", "neither a rating nor a correction", "c.csv:2"),
        ("d.csv", "name,age\nAnna,7\n", "no columns that feedback is made of; it has name, age", "d.csv:1"),
        ("e.csv", "id,rating\nx,1\n", "the traffic log knows none of the 1 ids", "e.csv:2"),
        ("f.jsonl", '{"text": "a", "label": "b"}\n{"text": \n', "not JSON", "f.jsonl:2"),
        ("g.csv", "text,label\n", "has no rows", "g.csv"),
    ],
)
def test_bad_imports_are_told_with_their_lines(
    shop: Shop, tmp_path: Path, name: str, content: str, said: str, where: str
) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(DataError) as told:
        import_file(shop, file)
    mistakes = told.value.mistakes
    assert any(said in mistake.what for mistake in mistakes), mistakes
    assert any(where in mistake.where for mistake in mistakes), mistakes


def test_a_bad_row_leaves_the_log_as_it_was(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        import_file(shop, write(tmp_path / "a.csv", "text,label\nhello,card\n,card\n"))
    assert not (shop.places.traffic / "traffic.db").exists()


def test_corrections_are_no_reason_when_prepare_does_not_take_them(shop: Shop) -> None:
    shop.settings = {"retrain_when": {"corrections": 5, "drift": False}}
    shop.promote()
    shop.send(shop.rows[600:610], corrected=10)
    _, verdict = shop.run()
    taken = shop.depends()
    assert verdict["due"] is True
    shop.takes_harvest = False
    report, verdict = shop.run()
    assert (verdict["due"], verdict["corrections_new"]) == (False, 10)
    assert any("prepare.feedback: false" in warning for warning in report.warnings)
    assert shop.depends() != taken


def test_importing_the_stage_loads_nothing_heavy() -> None:
    heavy = "torch transformers datasets sklearn scipy optuna onnxruntime"
    code = f"import sys, llmops.stages.feedback.stage\nprint(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
