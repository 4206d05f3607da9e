"""The feedback stage for models whose answers are words: chats that become rows and pairs, drift without labels."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.core.errors import DataError
from llmops.core.intervals import wilson
from llmops.core.protocols import Job, Judged, Places, Task
from llmops.core.report import Report
from llmops.fields.config import CleanStep
from llmops.fields.rows import Listed
from llmops.records.traffic import TrafficLog, new_id
from llmops.records.trafficreader import TrafficReader
from llmops.registry import store
from llmops.stages.deploy.config import DeploySection
from llmops.stages.feedback import harvest
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import ABSTAINS, ANSWERS
from llmops.stages.feedback.imports import import_file
from llmops.stages.feedback.lens import Lens
from llmops.stages.feedback.reference import answered, asked, heard, logged
from llmops.stages.feedback.signals import Signals
from llmops.stages.feedback.stage import FeedbackStage
from llmops.stages.prepare.config import PrepareSection
from llmops.stages.prepare.harvest import read_harvest
from llmops.tasks.answering import Answering
from llmops.tasks.base import TEXT
from llmops.tasks.text_generation import TextGeneration
from tests.rooms import FakeRoom, places_in
from tests.standin import make_bundle
from tests.test_feedback import STRANGE, sentences

WRITER, FINDER = TextGeneration(), Answering()
Messages = list[dict[str, str]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def exchange(text: str) -> dict[str, Any]:
    """A row of the data set."""
    return {"id": text, "text": text, "messages": [user(text), assistant(f"About {text}.")]}


@dataclass
class Desk:
    """A project of a model that writes: a data set of chats, a champion that cannot be opened, and a traffic log."""

    root: Path
    objective: str = "instructions"
    settings: dict[str, Any] = field(default_factory=dict)
    deploy: DeploySection = field(default_factory=DeploySection)
    task: Task = WRITER
    turns: int = 0

    def __post_init__(self) -> None:
        self.places: Places = places_in(self.root)
        self.dataset = self.root / "dataset"
        self.dataset.mkdir()
        self.texts = [text for text, _ in sentences(700, 3)]
        self.write("train", [exchange(text) for text in self.texts[:300]])
        self.write("valid", [exchange(text) for text in self.texts[300:400]])
        self.write("test", [exchange(text) for text in self.texts[400:500]])
        bundle = self.root / "bundle"
        bundle.mkdir()
        about = {"task": "text-generation", "task_version": 1, "runtime": "stepper", "cleaning": CleanStep().plain()}
        bundle_format.write(bundle, {**about, "lineage": {"run": "r", "candidate": "float32", "harvest_rows": 0}})
        store.promote(self.places.registry, bundle)

    def write(self, split: str, rows: Sequence[dict[str, Any]]) -> None:
        (self.dataset / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def sections(self) -> dict[str, Any]:
        return {
            "task": self.task.section.model_validate({"name": self.task.name, **self.of_task}),
            "prepare": PrepareSection(sources=["rows.jsonl"]),
            "deploy": self.deploy,
            "feedback": FeedbackSection(**self.settings),
        }

    @property
    def of_task(self) -> dict[str, Any]:
        return {"objective": self.objective} if self.task is WRITER else {}

    def say(
        self,
        messages: Messages,
        answer: str = "Hm.",
        rating: int | None = None,
        correction: str | None = None,
        finish: str = "stop",
        keep_text: bool = True,
    ) -> str:
        """One exchange as the server logs it, and what was said about it."""
        with TrafficLog(self.places.traffic / "traffic.db", keep_text=keep_text) as log:
            key = new_id()
            self._record(log, key, messages, answer, finish)
            if rating or correction:
                log.feedback(key, rating, correction, prose=True)
        return key

    def ask(self, texts: Sequence[str], **log: Any) -> None:
        """Many exchanges that nobody spoke about."""
        with TrafficLog(self.places.traffic / "traffic.db", **log) as open_log:
            for text in texts:
                self._record(open_log, new_id(), [user(text)], "Hm.", "stop")

    def _record(self, log: TrafficLog, key: str, messages: Messages, answer: str, finish: str) -> None:
        response = {"answer": answer, "finish_reason": finish, "completion_tokens": 3}
        log.record(
            key, version=1, request={"messages": messages}, response=response,
            label=None, probability=None, abstained=False, latency_ms=1.0, prose=True,
        )  # fmt: skip

    def run(self) -> tuple[Report, dict[str, Any]]:
        self.turns += 1
        room = FakeRoom(self.root / f"room{self.turns}")
        inputs = {"dataset": self.dataset, "bundle": self.root / "bundle"}
        job = Job("demo", self.sections, self.task, inputs, room, self.places, seed=0)
        report = FeedbackStage().run(job)
        assert report.markdown("feedback")
        return report, json.loads((room.out / "verdict.json").read_text())

    def rows(self, name: str = "harvest.jsonl") -> list[dict[str, Any]]:
        return harvest.read(self.places.traffic / name, TEXT)

    def pairs(self) -> list[dict[str, Any]]:
        return self.rows("preferences.jsonl")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_thumbs_and_corrections_become_instructions_and_pairs(desk: Desk) -> None:
    desk.settings = {"retrain_when": {"corrections": 2}}
    desk.say([user("who are you?")], "A cat.", rating=1)
    desk.say([user("where is my coat?")], "No idea.", rating=-1, correction="It is on its way.\n\nThank you.")
    desk.say([user("and my hat?")], "No idea.", rating=-1)
    desk.say([user("tell me more")], "Once upon", rating=1, finish="length")
    report, verdict = desk.run()
    rows = {row["text"]: row["messages"][-1]["content"] for row in desk.rows()}
    assert rows == {"who are you?": "A cat.", "where is my coat?": "It is on its way.\n\nThank you."}
    [pair] = desk.pairs()
    assert (pair["messages"], pair["chosen"]) == ([user("where is my coat?")], "It is on its way.\n\nThank you.")
    assert pair["rejected"] == "No idea."
    assert verdict["due"] is True
    assert verdict["reasons"] == ["2 new corrections and liked answers (corrections: 2)"]
    [passage] = report.passages
    assert "traffic/demo/preferences.jsonl" in passage.pieces[0][0]
    assert "runs/demo/latest/train/model" in passage.pieces[0][0]
    assert report.numbers["preference_rows"] == 1


def test_the_files_are_what_prepare_reads(desk: Desk) -> None:
    """Each row of the harvest is an example of its config; each pair one of a config that learns preferences."""
    desk.say([{"role": "system", "content": "Be kind."}, user("a\u2028b")], "c", rating=-1, correction="d")
    desk.run()
    [row] = read_harvest(desk.places.traffic / "harvest.jsonl", ["text"])
    assert row["messages"] == [{"role": "system", "content": "Be kind."}, user("a\u2028b"), assistant("d")]
    wanted = WRITER.section.model_validate({"name": "text-generation", "objective": "preferences"})
    made = WRITER.example(wanted, desk.pairs()[0])
    assert isinstance(made, dict) and (made["chosen"], made["rejected"]) == ("d", "c")


def test_a_whole_conversation_is_learned_and_recognised(desk: Desk) -> None:
    talk = [user("where is it"), assistant("What?"), user("my coat")]
    desk.say(talk, "There.", rating=1)
    desk.say(talk, "There!", rating=-1, correction="In the van.")
    desk.run()
    [row] = desk.rows()
    assert row["text"] == "where is it\nmy coat"
    assert row["messages"] == [*talk, assistant("In the van.")]


def test_test_rows_are_never_harvested(desk: Desk) -> None:
    own = desk.texts[400:403]
    desk.write("test", [exchange(text) for text in own] + [exchange("write to anna@example.org")])
    for text in (own[0], f" {own[1].upper()}!!", "write to anna@example.org"):
        desk.say([user(text)], "x", rating=-1, correction="y")
    desk.say([user(own[2])], "x", rating=1)
    report, _ = desk.run()
    assert (desk.rows(), desk.pairs(), report.numbers["harvest_in_test"]) == ([], [], 4)


def said(text: str, at: float, rating: int | None = None, correction: str | None = None, key: str = "") -> Judged:
    asked, answered = {"messages": [user(text)]}, {"answer": "served", "finish_reason": "stop"}
    return Judged(key or new_id(), 0.0, 1, None, False, "http", rating, correction, at, asked, answered)


def gather(before: list[dict[str, Any]], opinions: list[Judged]) -> harvest.Harvest:
    section = WRITER.section()
    return harvest.gather(before, opinions, Listed([]), harvest.Rule.of(WRITER, section))


def answers(found: harvest.Harvest) -> list[str]:
    return [row["messages"][-1]["content"] for row in found.rows]


def test_the_latest_word_wins_but_no_thumb_over_a_correction() -> None:
    first = gather([], [said("a", 1, correction="one"), said("A!", 2, correction="two"), said("b", 3, rating=1)])
    assert answers(first) == ["two", "served"]
    again = gather(first.rows, [said("a", 2, correction="two"), said("a", 4, rating=1), said("b", 5, correction="x")])
    assert answers(again) == ["two", "x"]
    assert (again.added, again.learned_until(2)) == (0, 5)


def test_a_thumb_that_is_turned_takes_its_row_along() -> None:
    liked = gather([], [said("a", 1, rating=1, key="k"), said("b", 1, rating=1)])
    assert answers(gather(liked.rows, [said("a", 2, rating=-1, key="k")])) == ["served"]
    assert len(gather(liked.rows, [said("a", 2, rating=-1, key="another")]).rows) == 2


def test_rows_of_another_kind_stay_beside(desk: Desk) -> None:
    desk.say([user("one")], "x", rating=-1, correction="y")
    desk.run()
    desk.objective = "preferences"
    desk.run()
    assert [set(row) & {"messages", "chosen"} for row in desk.rows()] == [{"messages"}, {"messages", "chosen"}]


def test_a_model_of_documents_learns_and_compares_nothing(desk: Desk) -> None:
    desk.objective = "language-model"
    desk.write("valid", [{"id": "1", "text": "long", "document": "long"}])
    desk.say([user("one")], "x", rating=1)
    desk.ask(desk.texts[500:650])
    report, verdict = desk.run()
    assert (desk.rows(), verdict["due"]) == ([], False)
    assert any("holds documents" in warning for warning in report.warnings)


def test_quality_is_what_users_liked(desk: Desk) -> None:
    for rating, correction in ((1, None), (1, None), (-1, "y"), (None, "y"), (None, None)):
        desk.say([user("one")], "x", rating, correction)
    report, _ = desk.run()
    numbers = report.numbers
    assert (numbers["requests"], numbers["rated"], numbers["corrections"]) == (5, 3, 2)
    assert (numbers["liked_share"], numbers["corrected_share"]) == (pytest.approx(2 / 3), pytest.approx(2 / 5))
    assert (numbers["liked_share_low"], numbers["liked_share_high"]) == pytest.approx(wilson(2 / 3, 3))
    assert not {"estimated_accuracy", "new_labels", "abstained_share"} & numbers.keys()
    assert not any(table.title.startswith("Answers that users corrected") for table in report.tables)
    assert any(warning.startswith("liked_share rests on the 3 answers") for warning in report.warnings)


def test_drift_looks_at_texts_alone(desk: Desk) -> None:
    desk.ask(desk.texts[500:650])
    report, verdict = desk.run()
    assert set(verdict["drift"]["tests"]) == {"unknown words", "texts"}
    assert (verdict["due"], report.numbers["drift"]) == (False, False), verdict
    dice = random.Random(5)
    desk.ask([" ".join(dice.sample(STRANGE, 4)) for _ in range(80)])
    report, verdict = desk.run()
    assert verdict["due"] is True
    assert verdict["reasons"][0].startswith("the traffic has drifted: ")


def test_a_log_without_texts_leaves_nothing_to_compare(desk: Desk) -> None:
    desk.ask(desk.texts[500:650], keep_text=False)
    report, verdict = desk.run()
    assert verdict["drift"]["tests"] == {}
    assert any("the log keeps no contents" in warning for warning in report.warnings)


def test_each_of_a_users_messages_is_a_request() -> None:
    talk = {"text": "a\nb", "messages": [user("a"), assistant("?"), user("b"), assistant("!")]}
    pair = {"text": "B", "messages": [user("B.")], "chosen": "x", "rejected": "y"}
    seen = Lens(TEXT, CleanStep().plain())
    assert asked(WRITER, WRITER.section(), [talk, pair], seen) == [{"text": "a"}, {"text": "B."}]
    assert asked(FINDER, FINDER.section(), [{"text": "c", "answer": "d"}], seen) == [{"text": "c"}]


def test_retrieval_is_compared_by_its_certainty_and_not_by_its_entries(tmp_path: Path) -> None:
    section = FINDER.section()
    signals, seen = Signals.of(FINDER, section), Lens(TEXT, CleanStep(lowercase=True).plain())
    assert signals == Signals(labels=False, certainty=True)
    predictor = Predictor.open(make_bundle(tmp_path / "bundle"), threads=1)
    sample = answered(predictor, [{"text": "A card please"}, {"text": "who KNOWS"}], seen, signals)
    assert (sample.labels, sample.abstentions) == ((), [ANSWERS, ABSTAINS])
    assert sample.fields["text"].tolist() == ["a card please", "who knows"]
    assert (sample.confidence[0] > 0.9, len(sample.confidence), sample.rows) == (True, 2, 2)
    with TrafficLog(tmp_path / "traffic.db") as log:
        for text in ("one", "ONE?", "two"):
            log.record(
                new_id(), version=1, request={"question": text}, response=None, label="e1", probability=0.5,
                abstained=text == "two", latency_ms=1.0,
            )  # fmt: skip
    with TrafficReader(tmp_path / "traffic.db") as log:
        found = heard(FINDER, section, log.requests(), seen, signals)
    told = logged(found, seen, signals)
    assert (sorted(told.abstentions), list(told.confidence)) == ([ABSTAINS, ANSWERS], [0.5, 0.5])
    assert told.fields["text"].tolist() == ["two", "one?"]  # the newest first, and what was asked twice once


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_import_about_logged_chats(desk: Desk, tmp_path: Path) -> None:
    liked, wrong = desk.say([user("one")], "1"), desk.say([user("two")], "2")
    file = write(
        tmp_path / "said.jsonl", [{"id": liked, "rating": 1}, {"id": wrong, "correction": "ask bo@example.org"}]
    )
    assert import_file(desk, file) == "imported 2 rows of said.jsonl; 0 were there already"
    assert import_file(desk, file) == "imported 0 rows of said.jsonl; 2 were there already"
    desk.run()
    assert [row["messages"][-1]["content"] for row in desk.rows()] == ["1", "ask <email>"]
    assert [(pair["chosen"], pair["rejected"]) for pair in desk.pairs()] == [("ask <email>", "2")]


CHATS = [
    {"messages": [user("one"), assistant("1"), user("two"), assistant("2")]},
    {"instruction": "add", "input": "1 and 2", "output": "3"},
    {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "Hello to you."}]},
    {"question": "why?", "answer": "because"},
]


def test_import_of_conversations_in_any_shape(desk: Desk, tmp_path: Path) -> None:
    file = write(tmp_path / "chats.jsonl", CHATS)
    assert import_file(desk, file) == "imported 4 rows of chats.jsonl; 0 were there already"
    assert import_file(desk, file) == "imported 0 rows of chats.jsonl; 4 were there already"
    report, _ = desk.run()
    assert report.numbers["requests"] == 0  # nobody asked the server
    assert [(row["text"], row["messages"][-1]["content"]) for row in desk.rows()] == [
        ("one\ntwo", "2"), ("add\n1 and 2", "3"), ("hello", "Hello to you."), ("why?", "because"),
    ]  # fmt: skip
    assert desk.pairs() == []
    better = write(tmp_path / "better.jsonl", [{"question": "why?", "answer": "because of this"}])
    import_file(desk, better)
    desk.run()
    assert desk.rows()[3]["messages"][-1]["content"] == "because of this"


def test_import_of_preferences(desk: Desk, tmp_path: Path) -> None:
    desk.objective = "preferences"
    row = {"prompt": "why?", "chosen": "because", "rejected": "no"}
    file = write(tmp_path / "pairs.jsonl", [row])
    assert import_file(desk, file).startswith("imported 1 row")
    assert import_file(desk, file).startswith("imported 0 rows")
    desk.run()
    for [pair] in (desk.rows(), desk.pairs()):
        assert (pair["messages"], pair["chosen"], pair["rejected"]) == ([user("why?")], "because", "no")


@pytest.mark.parametrize(
    ("name", "rows", "told", "where"),
    [
        ("a.jsonl", [CHATS[0], {"messages": [user("one")]}], "no answer follows the user's words", "a.jsonl:2"),
        ("b.jsonl", [{"name": "Anna"}], "no known shape of a conversation (columns: name)", "b.jsonl:1"),
        ("c.jsonl", [{"id": "x", "rating": 1}], "the traffic log knows none of the 1 ids", "c.jsonl:1"),
    ],
)
def test_bad_chats_are_told_with_their_lines(
    desk: Desk, tmp_path: Path, name: str, rows: list[dict[str, Any]], told: str, where: str
) -> None:
    with pytest.raises(DataError) as error:
        import_file(desk, write(tmp_path / name, rows))
    mistakes = error.value.mistakes
    assert any(told in mistake.what and where in mistake.where for mistake in mistakes), mistakes


def test_documents_and_logs_without_texts_take_no_answers(desk: Desk, tmp_path: Path) -> None:
    file = write(tmp_path / "chats.jsonl", CHATS)
    desk.deploy = DeploySection(log_text=False)
    with pytest.raises(DataError, match="keeps no contents"):
        import_file(desk, file)
    desk.objective = "language-model"
    with pytest.raises(DataError, match="1 bad row") as error:
        import_file(desk, write(tmp_path / "text.jsonl", [{"text": "once"}]))
    assert "holds no answer" in error.value.mistakes[1].what


def test_import_of_questions_with_answers(desk: Desk, tmp_path: Path) -> None:
    desk.task = FINDER
    columns = {"question": "question", "answer": "answer", "source": "source"}
    row = {"question": "where is it?", "answer": "Write to help@shop.example.", "source": "https://shop.example/where"}
    file = write(tmp_path / "faq.jsonl", [row])
    task = FINDER.section.model_validate({"name": "answering", **columns})
    home = Home(desk.places, {**desk.sections, "task": task}, FINDER)
    assert import_file(home, file).startswith("imported 1 row")
    assert import_file(home, file).startswith("imported 0 rows")
    with TrafficReader(desk.places.traffic / "traffic.db") as log:
        [judged] = log.judged()
    made = FINDER.harvested(task, judged)
    assert made is not None
    assert {"text": made["text"], "answer": made["answer"], "source": made["source"]} == {
        "text": row["question"], "answer": row["answer"], "source": row["source"],
    }  # fmt: skip
    with pytest.raises(DataError, match="no columns that feedback is made of"):
        import_file(home, write(tmp_path / "b.jsonl", [{"question": "x"}]))


@dataclass
class Home:
    places: Places
    sections: dict[str, Any]
    task: Task
