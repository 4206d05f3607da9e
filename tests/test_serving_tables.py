"""serving tables: a real bundle behind the real server; one row, many, reasons that add up, all that can be wrong."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmops.commands.predict import predict_file
from llmops.core.console import Console
from llmops.core.run import RunStore
from llmops.fields.rows import read_split
from llmops.project import open_project
from llmops.registry import store as registry
from llmops.tasks.tabular.codec import TabularCodec
from tests import standin, tiny_table, webdriver
from tests.interface import Interface
from tests.standin import Caller
from tests.test_loop import llmops
from tests.webdriver import Browser

CONFIG = """\
version: 1
project: shop
task:
  name: tabular
  target: left
  id: account
  fields:
    joined: {kind: date, dates: "%d.%m.%Y"}
    seen: date
    plan: category
    spent: {kind: number, decimal: ","}
    calls: {kind: number, missing: ["-999"]}
    paperless: flag
    remark: text
need: {probe_s: 0.5, accept: {above_baseline: null}, costs: {missed: 3, alarm: 1}}
prepare:
  sources: [data.csv]
  steps: [clean: {}, dedup: {near: null}, split: {valid: 0.2, test: 0.2}]
train:
  members: [linear, trees, network]
  folds: 2
  trees: {rounds: 40}
  network: {epochs: 3, width: 16, members: 2}
compress: {candidates: [float32]}
deploy: {port: 0}
"""
COLUMNS = ("account", "joined", "seen", "plan", "spent", "calls", "paperless", "remark", "left")
GOOD = {
    "joined": "05.03.2021", "seen": "2024-01-15", "plan": "family", "spent": 35.5, "calls": 4, "paperless": True,
    "remark": "moved house",
}  # fmt: skip


def customer(number: int, dice: random.Random) -> tuple[object, ...]:
    """A customer: many calls and little spent make them leave."""
    plan, calls, spent = dice.choice(["basic", "family", "travel"]), dice.randrange(9), dice.uniform(5, 90)
    remark = dice.choice(["asked for a rebate", "moved house", "phoned about the bill", ""])
    risk = calls * 9 - spent + 20 * (remark == "asked for a rebate") + dice.gauss(0, 12)
    joined = f"{dice.randrange(1, 28):02}.{dice.randrange(1, 13):02}.20{dice.randrange(15, 23)}"
    seen = f"2024-{dice.randrange(1, 13):02}-{dice.randrange(1, 28):02}"
    shown = "" if dice.random() < 0.1 else f"{spent:.2f}".replace(".", ",")
    told = -999 if dice.random() < 0.05 else calls
    paperless = dice.choice(["yes", "no"])
    return f"A{number}", joined, seen, plan, shown, told, paperless, remark, "yes" if risk > 0 else "no"


def write_rows(path: Path, rows: int, seed: int = 1) -> None:
    dice = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(customer(number, dice) for number in range(rows))


@dataclass
class Shop:
    """A project whose loop has turned, and its server."""

    config: Path
    bundle: Path
    port: int


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    write_rows(folder / "data.csv", 300)
    config = folder / "shop.yaml"
    config.write_text(CONFIG)
    llmops("run", config)
    found = registry.champion(open_project(config).places.registry)
    assert found is not None
    with standin.serve_bundle(found[1], folder / "traffic.db", max_text_chars=2000) as (process, port):
        yield Shop(config, found[1], port)
        process.terminate()
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


@pytest.fixture
def call(shop: Shop) -> Caller:
    return Caller(shop.port)


def answered(call: Caller, body: Any) -> Any:
    status, said = call("POST", "/v1/predict", body)
    assert status == 200, said
    return said


def adds_up(answer: dict[str, Any], score: str = "score") -> bool:
    total = answer["base"] + sum(reason["effect"] for reason in answer["reasons"]) + answer["others"]
    return abs(total - answer[score]) < 1e-6


def test_the_model_tells_its_form(call: Caller) -> None:
    told = call("GET", "/v1/model")[1]
    assert (told["one"], told["many"], told["predicts"], told["labels"]) == (None, "rows", "class", ["no", "yes"])
    schema, fields = told["schema"], told["schema"]["properties"]
    assert (schema["x-id"], schema["x-target"]) == ("account", "left")
    controls = {name: field.get("x-control") for name, field in fields.items()}
    assert controls == {
        "account": None, "joined": "box", "seen": "date", "plan": "select", "spent": "number", "calls": "number",
        "paperless": "switch", "remark": "box",
    }  # fmt: skip
    assert fields["seen"]["format"] == "date"
    examples = {name: field["examples"][0] for name, field in fields.items() if field.get("examples")}
    assert answered(call, examples)["unseen"] == []


@pytest.mark.parametrize(("change", "good"), [
    (lambda row: row, True), (lambda row: [row, row], True), (lambda row: {"rows": [row]}, True),
    (lambda row: {**row, "reasons": 2, "account": "A7", "left": "yes"}, True),
    (lambda row: {**row, "spent": None}, True), (lambda row: {**row, "strange": 1}, False),
    (lambda row: {**row, "spent": [1]}, False), (lambda row: [], False),
    (lambda row: {"rows": []}, False), (lambda row: {"rows": [row], "plan": "basic"}, False),
    (lambda row: {**row, "reasons": "many"}, False), (lambda row: "a row", False),
])  # fmt: skip
def test_the_description_of_the_interface_is_true(shop: Shop, change: Any, good: bool) -> None:
    told = Interface(shop.port)
    told.agrees("/v1/predict", change(told.example("/v1/predict")), good)


def test_one_row(call: Caller) -> None:
    said = answered(call, GOOD)
    assert said["label"] in ("no", "yes")
    assert said["probability"] == said["probabilities"][said["label"]]
    assert sum(said["probabilities"].values()) == pytest.approx(1)
    assert len(said["reasons"]) == 3
    assert (said["missing"], said["unseen"], said["version"]) == ([], [], 0)


def test_many_rows_both_ways_are_answered_as_each_alone(call: Caller) -> None:
    rows = [{**GOOD, "calls": calls} for calls in range(5)]
    alone = [answered(call, row) for row in rows]
    for body in (rows, {"rows": rows}):
        said = answered(call, body)["results"]
        assert len({one["id"] for one in said}) == 5
        for mine, theirs in zip(said, alone, strict=True):
            assert mine["label"] == theirs["label"]
            assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)


@pytest.mark.parametrize("asked", [0, 1, 3, 1000])
def test_reasons_add_up(call: Caller, asked: int) -> None:
    said = answered(call, {**GOOD, "reasons": asked})
    if asked:
        assert adds_up(said)
        sizes = [abs(reason["effect"]) for reason in said["reasons"]]
        assert sizes == sorted(sizes, reverse=True)
    assert len(said["reasons"]) == min(asked, len(GOOD))
    values = {reason["column"]: reason["value"] for reason in said["reasons"]}
    assert values.items() <= GOOD.items()


def test_rows_of_one_call_may_want_different_numbers_of_reasons(call: Caller) -> None:
    said = answered(call, [{**GOOD, "reasons": 0}, {**GOOD, "reasons": 2}, GOOD])["results"]
    assert [len(one["reasons"]) for one in said] == [0, 2, 3]
    assert adds_up(said[1])
    assert adds_up(said[2])


def changed(**cells: str) -> bytes:
    """The good row with cells as they stand in JSON."""
    plain = {name: json.dumps(value) for name, value in GOOD.items()} | cells
    return ("{" + ", ".join(f'"{name}": {cell}' for name, cell in plain.items()) + "}").encode()


MANY_KEYS = json.dumps({**GOOD, **{f"spend{n}": n for n in range(10_000)}}).encode()
REFUSED = [
    ("a text in a number", changed(calls='"many"'), 422, ["calls: `\"many\"`: not a number"]),
    ("too large an exponent", changed(calls="1e400"), 422, ["calls", "infinite"]),
    ("Infinity", changed(calls="-Infinity"), 422, ["calls", "infinite"]),
    ("a whole number beyond floats", changed(calls="9" * 400), 422, ["calls", "too large for a number"]),
    ("a number of thousands of digits", changed(calls="9" * 5000), 400, ["a number has thousands of digits"]),
    ("the other decimal sign", changed(spent='"35.55"'), 422, ["spent", "a point, where `decimal` is a comma"]),
    ("decimal comma where there is none", changed(calls='"4,5"'), 422, ["calls", "a comma, where `decimal`"]),
    ("no such day", changed(seen='"2024-02-30"'), 422, ["seen", "no such day"]),
    ("a date in another form", changed(joined='"2021-03-05"'), 422, ["joined", "not a date (as %d.%m.%Y)"]),
    ("a date as a number", changed(seen="20240115"), 422, ["seen", "not a date"]),
    ("a date as digits", changed(seen='"20240115"'), 422, ["seen", "not a date"]),
    ("a date far off", changed(seen='"0024-01-15"'), 422, ["seen", "before 1900"]),
    ("a number for a flag", changed(paperless="7"), 422, ["paperless: `7`: neither yes nor no"]),
    ("a list as a number", changed(calls="[4]"), 422, ["calls: `[4]`: not a number"]),
    ("an object as a category", changed(plan='{"name": "family"}'), 422, ["plan", "more than one value in a cell"]),
    ("a list as a text", changed(remark='["a", "b"]'), 422, ["remark", "more than one value in a cell"]),
    ("a nested date", changed(seen='{"day": [1]}'), 422, ["seen", "not a date"]),
    ("a cell nested deeply", changed(calls="[" * 900 + "]" * 900), 422, ["calls", "not a number"]),
    ("an extra column", changed(colour='"red"'), 422, ["`colour` is no field of this model"]),
    ("a slip of the keyboard", changed(spend="35"), 422, ["`spend` is no field", "did you mean `spent`?"]),
    ("many mistakes", changed(calls='"x"', seen='"y"', colour="1"), 422, ["calls", "seen", "`colour`"]),
    ("10,000 keys", MANY_KEYS, 422, ["`spend0`", "and 9,990 more"]),
    ("a name of half a surrogate pair", changed(**{"\\ud800": "1"}), 422, ["`\ufffd` is no field"]),
    ("an empty name", changed(**{"": "1"}), 422, ["`` is no field"]),
    ("an id of many parts", changed(account='["A1"]'), 422, ["account", "more than one value"]),
    ("a long id", changed(account=json.dumps("A" * 300)), 422, ["account: longer than 200 characters"]),
    ("fewer than no reasons", changed(reasons="-1"), 422, ["reasons: `-1` is not a number from 0 to 1000"]),
    ("reasons as a text", changed(reasons='"3"'), 422, ['reasons: `"3"` is not a number']),
    ("reasons as a switch", changed(reasons="true"), 422, ["reasons: `true` is not a number"]),
    ("half a reason", changed(reasons="1.5"), 422, ["reasons: `1.5` is not a number"]),
    ("an empty object", b"{}", 422, ["the row holds none of the model's fields"]),
    ("an id alone", b'{"account": "A1"}', 422, ["the row holds none of the model's fields"]),
    ("an empty list", b"[]", 422, ["`rows` is not a list with something in it"]),
    ("no rows", b'{"rows": []}', 422, ["`rows` is not a list with something in it"]),
    ("rows that are an object", b'{"rows": {"calls": 1}}', 422, ["`rows` is not a list"]),
    ("rows that are null", b'{"rows": null}', 422, ["`rows` is not a list"]),
    ("rows beside another key", b'{"rows": [{"calls": 1}], "calls": 1}', 422, ["`rows` stands beside calls"]),
    ("rows under another name", b'{"rosw": [{"calls": 1}]}', 422, ["`rosw`", "did you mean `rows`?"]),
    ("a number among rows", b'[{"calls": 1}, 5]', 422, ["rows[1]: a row is an object of fields"]),
    ("null among rows", b'{"rows": [null]}', 422, ["rows[0]: a row is an object of fields"]),
    ("a bad cell among rows", b'[{"calls": 1}, {"calls": "x"}]', 422, ['rows[1]: calls: `"x"`: not a number']),
    ("too many rows", json.dumps([GOOD] * 65).encode(), 413, ["65 rows in one call", "at most 64"]),
    ("a long text", changed(remark=json.dumps("x" * 2001)), 413, ["most of them in `remark`", "at most 2,000"]),
    ("a long category", changed(plan=json.dumps("x" * 2001)), 413, ["most of them in `plan`"]),
    ("a long text among rows", b"[" + changed(remark=json.dumps("x" * 2001)) + b"]", 413, ["rows[0]: the row has"]),
    ("a text as the body", b'"calls: 4"', 422, ["not an object", "GET /v1/model"]),
    ("null as the body", b"null", 422, ["not an object"]),
    ("not JSON", b"{calls: 4}", 400, ["the body is not JSON", "GET /v1/model"]),
    ("not UTF-8", b'{"remark": "\xff"}', 400, ["the body is not JSON"]),
    ("nested deeply", b"[" * 5000, 400, ["nested too deeply"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refuses(call: Caller, body: bytes, status: int, words: list[str]) -> None:
    got, _, said = call.raw("POST", "/v1/predict", body)
    error = json.loads(said)["error"]
    assert got == status, error
    for some in words:
        assert some in f"{error['what']} {error['do']}"
    assert len(said) < 3000
    assert "Traceback" not in said.decode()


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", "application/x-www-form-urlencoded", None])
def test_refuses_what_is_not_sent_as_json(call: Caller, kind: str | None) -> None:
    status, _, said = call.raw("POST", "/v1/predict", changed(), kind)
    assert (status, json.loads(said)["error"]["code"]) == (415, "not-json")


ANSWERED = [
    ("a new category", changed(plan='"famly"'), ["plan: never seen in training: famly (did you mean family?)"]),
    ("a number as a category", changed(plan="5"), ["plan: never seen in training: 5"]),
    ("a number far out", changed(calls="100000"), ["calls: 100,000 is far outside of 0 to 8"]),
    ("the largest number", changed(calls="-1e308"), ["calls: -1e+308 is far outside of 0 to 8"]),
    ("half a surrogate pair in a category", changed(plan='"\\ud800"'), ["plan: never seen in training: \ufffd"]),
    ("half a surrogate pair in a text", changed(remark='"moved \\udc00"'), []),
    ("a zero below zero", changed(calls="-0.0"), []),
    ("NaN is not known", changed(calls="NaN", plan="NaN", seen="NaN", paperless="NaN", account="NaN"), []),
    ("null for all", json.dumps(dict.fromkeys(GOOD)).encode(), []),
    ("the code for missing", changed(calls="-999"), []),
    ("empty texts", changed(remark='""', plan='""', calls='""', seen='""'), []),
    ("true is 1, as in a table", changed(calls="true"), []),
    ("a flag in words", changed(paperless='"Yes"'), []),
    ("a number in words, as the field has it", changed(spent='"1.035,50 €"'), ["spent: 1,036 is far outside of"]),
    ("a moment for a day", changed(seen='"2024-01-15T10:00:00Z"'), []),
    ("the target comes along", changed(left='"yes"'), []),
    ("the target comes along as anything", changed(left="[" * 100 + "]" * 100), []),
    ("a name twice: the last counts", b'{"calls": "x", ' + changed()[1:-1] + b', "calls": 5}', []),
    ("an id that is a number", changed(account="17"), []),
]  # fmt: skip


@pytest.mark.parametrize(("body", "unseen"), [case[1:] for case in ANSWERED], ids=[case[0] for case in ANSWERED])
def test_answers(call: Caller, body: bytes, unseen: list[str]) -> None:
    status, _, said = call.raw("POST", "/v1/predict", body[:-1] + b', "reasons": 1000}')
    assert status == 200, said
    answer = json.loads(said)
    assert len(answer["unseen"]) == len(unseen)
    for told, words in zip(answer["unseen"], unseen, strict=True):
        assert told.startswith(words)
    assert answer["missing"] == []
    assert 0 <= answer["probability"] <= 1


def test_of_a_name_that_stands_twice_the_last_counts(call: Caller) -> None:
    twice = json.loads(call.raw("POST", "/v1/predict", b'{"calls": 0, ' + changed(calls="8")[1:])[2])
    assert twice["score"] == pytest.approx(answered(call, {**GOOD, "calls": 8})["score"], abs=1e-6)


def test_what_is_not_sent_is_told_and_counts_as_null(call: Caller) -> None:
    part = {name: value for name, value in GOOD.items() if name not in ("plan", "remark")}
    said = answered(call, part)
    assert said["missing"] == ["plan", "remark"]
    assert said["score"] == pytest.approx(answered(call, {**part, "plan": None, "remark": None})["score"], abs=1e-6)


def test_the_target_moves_nothing_and_is_not_kept(call: Caller, shop: Shop) -> None:
    plain, told = answered(call, GOOD), answered(call, {**GOOD, "left": "yes"})
    assert told["score"] == pytest.approx(plain["score"], abs=1e-6)
    codec = TabularCodec(shop.bundle)
    assert codec.Request.model_validate({**GOOD, "left": "yes", "account": "A1", "reasons": 2}).plain() == {
        **GOOD, "account": "A1",
    }  # fmt: skip


def test_a_bad_row_among_good_ones_is_named_by_its_number(call: Caller) -> None:
    status, said = call("POST", "/v1/predict", {"rows": [GOOD] * 7 + [{**GOOD, "calls": "x"}]})
    assert status == 422
    assert said["error"]["what"].startswith("rows[7]: calls")


def test_served_answers_are_the_learners(call: Caller, shop: Shop) -> None:
    project = open_project(shop.config)
    run = RunStore(project.places.runs).runs()[0]
    dataset, trained = run.open_artifact("prepare", "dataset"), run.open_artifact("train", "model")
    codec = TabularCodec(shop.bundle)
    rows = [codec.request(row).plain() for row in read_split(dataset, "test")]
    assert len(rows) > 40
    said = [one for at in range(0, len(rows), 50) for one in answered(call, rows[at : at + 50])["results"]]
    learner = project.task.learner(project.sections["task"], project.sections["train"], 0)
    learner.load(trained)
    raw = learner.predict(dataset, "test")[:, 0]
    assert np.abs(raw - [one["score"] for one in said]).max() <= 1e-5
    assert all(adds_up(one) for one in said)


def predicted(shop: Shop, file: Path) -> list[dict[str, Any]]:
    out = file.with_suffix(".answers")
    llmops("predict", shop.config, file, "--out", out)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_predict_reads_a_table_as_training_does(shop: Shop, call: Caller, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    lines = [
        "account;extra;" + ";".join(GOOD),
        "B1;x;05.03.2021;2024-01-15;family;35,5;4;yes;moved house",
        "B2;x;05.03.2021;2024-01-15;family;35,5;many;yes;moved house",
        "B3;x;2021-03-05;2024-01-15;family;35,5;4;yes;moved house",
        "B4;x;05.03.2021;2024-01-15;famly;;-999;no;",
        "B5;x;05.03.2021",
    ]
    file.write_text("\n".join(lines) + "\n")
    said = predicted(shop, file)
    assert [one["origin"].rpartition(":")[2] for one in said] == ["2", "3", "4", "5", "6"]
    assert said[1]["error"] == "calls: not a number: `many`"
    assert said[2]["error"] == "joined: not a date (as %d.%m.%Y): `2021-03-05`"
    assert "3 cells where the header has 9" in said[4]["error"]
    assert [one["account"] for one in (said[0], said[3])] == ["B1", "B4"]
    assert said[0]["score"] == pytest.approx(answered(call, GOOD)["score"], abs=1e-5)
    assert said[3]["unseen"] == ["plan: never seen in training: famly (did you mean family?)"]
    assert all(adds_up(one) for one in (said[0], said[3]))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_predict_reads_other_forms_of_the_same_rows(shop: Shop, call: Caller, tmp_path: Path, form: str) -> None:
    rows = [{**GOOD, "account": f"C{calls}", "calls": calls} for calls in range(9)]
    file = tmp_path / f"new.{form}"
    if form == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    said = predicted(shop, file)
    assert [one["account"] for one in said] == [row["account"] for row in rows]
    served = answered(call, [{**row, "reasons": 1} for row in rows])["results"]
    assert [one["score"] for one in said] == pytest.approx([one["score"] for one in served], abs=1e-5)


def test_predict_tells_which_fields_a_file_lacks(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "part.csv"
    file.write_text("calls,plan\n4,family\n5,basic\n")
    predict_file(open_project(shop.config), file, None, None, Console())
    assert "lacks joined, seen, spent, paperless, remark" in capsys.readouterr().err
    said = [json.loads(line) for line in Path(f"{file}.answers.jsonl").read_text().splitlines()]
    assert [one["missing"] for one in said] == [["joined", "seen", "spent", "paperless", "remark"]] * 2
    strange = tmp_path / "strange.csv"
    strange.write_text("Calls,colour\n4,red\n")
    assert "holds none of the model's fields" in llmops("predict", shop.config, strange, code=4)


needs_browser = [
    pytest.mark.prove,
    pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing())),
]
ENTER, TAB, LEFT = "\ue007", "\ue004", "\ue012"
EVIL = "<img src=x onerror=\"document.title='hacked'\">"


def opinions(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "traffic.db") as log:
        rows = log.execute(
            "SELECT r.request, f.rating, f.correction FROM feedback f JOIN requests r ON r.id = f.request_id"
        ).fetchall()
    log.close()
    return rows


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with webdriver.browser(tmp_path) as one:
        yield one
        assert not [said for said in one.complaints() if "status of 4" not in said]
        assert one.run("return document.title") == "Try the model"


@pytest.fixture
def page(shop: Shop, browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The page on a server of its own, whose log is in the test's folder."""
    with standin.serve_bundle(shop.bundle, tmp_path / "traffic.db") as (_, port):
        browser.size(1200, 1000)
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait("#about", "7 fields")
        yield browser


class TestPage:
    pytestmark = needs_browser

    def test_all_empty_is_all_not_known(self, page: Browser, tmp_path: Path) -> None:
        page.click("#send")
        page.wait("#reasons", "an average row")
        page.click("#right")
        page.wait("#thanks", "noted as right")
        standin.wait_until(lambda: opinions(tmp_path), 5)
        ((request, rating, correction),) = opinions(tmp_path)
        assert (rating, correction) == (1, None)
        assert json.loads(request) == dict.fromkeys(["account", *GOOD])

    def test_an_example_is_asked_and_corrected_with_the_keyboard_alone(self, page: Browser, tmp_path: Path) -> None:
        page.run("document.getElementById('field-account').focus()")
        page.press("K1" + TAB + "05.03.2021" + TAB)
        page.run("document.getElementById('field-plan').focus()")
        page.press("f" + TAB + "35.5" + TAB + "4" + TAB + LEFT + TAB + EVIL + TAB + ENTER)
        page.wait("#reasons", "makes the score of")
        page.run("document.getElementById('wrong').focus()")
        page.press(ENTER)
        page.press(f"{EVIL}{ENTER}")
        page.wait("#thanks", "<img")
        standin.wait_until(lambda: opinions(tmp_path), 5)
        ((request, rating, correction),) = opinions(tmp_path)
        assert json.loads(request) == {
            **GOOD, "account": "K1", "seen": None, "paperless": False, "remark": EVIL,
        }  # fmt: skip
        assert (rating, correction) == (-1, EVIL)
        assert page.run("return document.images.length") == 0

    def test_the_account_adds_up(self, page: Browser) -> None:
        page.click("#example")
        page.click("#send")
        page.wait("#reasons", "makes the score of")
        shown = page.run("return [...document.querySelectorAll('#reasons .amount')].map(one => one.textContent)")
        numbers = [float(one.replace("\u2212", "-").replace(",", "")) for one in shown]
        assert len(numbers) == 9  # the average, six reasons, all else, the sum
        assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=0.06)
        sides = page.run(
            "return [...document.querySelectorAll('#reasons .reason')].map(one => one.querySelector('.less') ? -1 : 1)"
        )
        assert sides == [-1 if one < 0 else 1 for one in numbers[1:-2]]

    @pytest.mark.parametrize("width", [320, 360, 768, 1200])
    def test_nothing_overflows(self, page: Browser, width: int) -> None:
        page.size(width, 800)
        page.click("#example")
        page.run("document.getElementById('field-remark').value = 'averylongword'.repeat(40)")
        page.run("document.getElementById('field-calls').value = '1e300'")
        page.click("#send")
        page.wait("#notes", "far outside")
        page.click("#wrong")
        assert page.run("return document.documentElement.scrollWidth") <= width
        small = (
            "return [...document.querySelectorAll('button')].filter(b => b.offsetHeight && b.offsetHeight < 40).length"
        )
        assert page.run(small) == 0

    def test_a_refusal_is_shown_in_words(self, page: Browser) -> None:
        page.run("document.getElementById('field-joined').value = '2021-03-05'")
        page.click("#send")
        page.wait("#trouble", "not a date (as %d.%m.%Y)")

    def test_a_number_has_its_interval_and_what_came_true(self, browser: Browser, tmp_path: Path) -> None:
        config = tiny_table.numbers(tmp_path / "owes")
        llmops("run", config)
        found = registry.champion(open_project(config).places.registry)
        assert found is not None
        with standin.serve_bundle(found[1], tmp_path / "traffic.db") as (_, port):
            browser.size(360, 800)
            browser.open(f"http://127.0.0.1:{port}/")
            browser.wait("#about", "owes")
            browser.click("#example")
            browser.click("#send")
            browser.wait("#decision", "90 % of such rows lie between")
            assert "raises it" in browser.text("#why")
            browser.run("document.getElementById('correction').focus()")
            browser.press(f"123.5{ENTER}")
            browser.wait("#thanks", "123.5")
            standin.wait_until(lambda: opinions(tmp_path), 5)
            assert opinions(tmp_path)[0][1:] == (None, "123.5")
            assert browser.run("return document.documentElement.scrollWidth") <= 360
