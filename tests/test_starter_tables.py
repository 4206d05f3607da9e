"""`llmops init` on tables that nobody prepared for, and the tables that the project ships."""

from __future__ import annotations

import json
import random
import runpy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from llmops.core.errors import DataError
from llmops.core.protocols import Job
from llmops.fields.config import FieldSection
from llmops.project import open_project
from llmops.stages.prepare.stage import PrepareStage
from llmops.starter import draft, write
from llmops.starter.columns import cells_of, guess
from llmops.starter.recognise import recognise
from llmops.starter.target import positive_of
from tests.cases_data import csv_text
from tests.rooms import FakeRoom
from tests.shared import SHARED
from tests.test_loop import llmops, states
from tests.test_starter import ENGLISH, sentences

ROOT = Path(__file__).resolve().parent.parent
ROWS = 400
DICE = random.Random(5)


def german(number: float) -> str:
    """1.234,50"""
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def chance(share: float) -> bool:
    return DICE.random() < share


def semicolons_and_a_bom() -> tuple[str, bytes]:
    """German: decimal commas, thousands apart, `k.A.`, an id, codes with a leading zero; the target stands last."""
    lines = ["Kundennummer;Kunde seit;PLZ;Umsatz;Verträge;Newsletter;Alter;Kündigung"]
    for n in range(ROWS):
        sales, young = DICE.uniform(20, 4000), DICE.randrange(18, 80)
        gone = "ja" if chance(0.5 if sales < 700 else 0.1) else "nein"
        news = DICE.choice(["ja", "nein", "k.A."])
        age = "k.A." if n % 17 == 0 else str(young)
        day = f"{1 + n % 28:02d}.{1 + n % 12:02d}.20{10 + n % 14}"
        place = DICE.choice(["01067", "10115", "80331", "20095", "04109"])
        lines.append(f"K-{7000 + 3 * n};{day};{place};{german(sales)};{n % 5};{news};{age};{gone}")
    return "kunden.csv", "\n".join(lines).encode("utf-8-sig")


def target_first_in_latin_1() -> tuple[str, bytes]:
    """French: the price stands first, with a decimal comma; an index without meaning; NC where nothing is known."""
    lines = ["prix;Unnamed: 0;surface;pièces;étage;balcon;quartier"]
    for n in range(ROWS):
        size = DICE.randrange(20, 140)
        price = size * 11.5 + DICE.gauss(0, 40) + 200
        floor = "NC" if n % 11 == 0 else str(n % 7)
        cells = [f"{price:.2f}", str(n), f"{size + 0.5:.1f}", str(1 + size // 28), floor]
        lines.append(
            ";".join([*cells, DICE.choice(["oui", "non"]), DICE.choice(["Marais", "Opéra", "Belleville"])]).replace(
                ".", ","
            )
        )
    return "loyers.csv", "\n".join(lines).encode("latin-1")


def american() -> tuple[str, bytes]:
    """An index that pandas left, dollars, months first, NA, and a column that is known only afterwards."""
    rows = [("Unnamed: 0", "churned", "signup", "plan", "monthly", "tickets", "cancel_reason", "fax", "country")]
    for n in range(ROWS):
        fee, tickets = DICE.uniform(5, 1900), DICE.randrange(0, 9)
        left = chance(0.6 if tickets > 6 else 0.1)
        rows.append(
            (
                str(n), str(left), f"{1 + n % 12:02d}/{1 + n % 28:02d}/2024", DICE.choice(["basic", "plus", "NA"]),
                f'"${fee:,.2f}"', str(tickets), "moved" if left else "NA", "", "US",
            )
        )  # fmt: skip
    return "customers.csv", "\n".join(",".join(row) for row in rows).encode()


def three_classes_by_tabs() -> tuple[str, bytes]:
    """Spanish: three classes, last; several rows of one client; sí and no."""
    lines = ["cliente_id\tfecha\tingresos\thijos\tcasado\tsector\triesgo"]
    for n in range(ROWS):
        income = DICE.uniform(600, 6000)
        risk = "alto" if income < 1500 and chance(0.8) else DICE.choice(["medio", "bajo", "bajo"])
        missing = "NA" if n % 13 == 0 else f"{income:.2f}"
        sector = DICE.choice(["comercio", "industria", "campo"])
        cells = [f"C{n // 2:04d}", f"2024-{1 + n % 12:02d}-03", missing, str(n % 4), DICE.choice(["sí", "no"])]
        lines.append("\t".join([*cells, sector, risk]))
    return "solicitudes.tsv", "\n".join(lines).encode()


def objects() -> tuple[str, bytes]:
    """JSON lines, Chinese names, -999 for what is missing, a list, an empty and a constant column."""
    rows = []
    for n in range(ROWS):
        owed = DICE.randrange(0, 90_000)
        rows.append(
            {
                "用户": f"u{n:06d}", "年龄": -999 if n % 19 == 0 else DICE.randrange(18, 70), "负债": owed,
                "已婚": chance(0.5), "城市": DICE.choice(["北京", "上海", "广州"]), "标记": ["a", n], "备用": None,
                "版本": "v2", "违约": "是" if chance(0.45 if owed > 60_000 else 0.05) else "否",
            }
        )  # fmt: skip
    return "records.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


@dataclass(frozen=True)
class Unprepared:
    """A file as it comes, and what must be found in it."""

    make: Callable[[], tuple[str, bytes]]
    target: str
    predict: str
    kinds: str
    positive: str | None = None
    id: str | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


TABLES = [
    Unprepared(
        semicolons_and_a_bom, "Kündigung", "class",
        "Kunde seit: date, PLZ: category, Umsatz: number, Verträge: number, Newsletter: flag, Alter: number",
        "ja", "Kundennummer",
        {
            "Umsatz": {"decimal": ","}, "Kunde seit": {"dates": "%d.%m.%Y"}, "Newsletter": {"missing": ["k.a."]},
            "Alter": {"missing": ["k.a."]},
        },
    ),
    Unprepared(
        target_first_in_latin_1, "prix", "number",
        "surface: number, pièces: number, étage: number, balcon: flag, quartier: category",
        None, "Unnamed: 0", {"surface": {"decimal": ","}, "étage": {"missing": ["nc"]}},
    ),
    Unprepared(
        american, "churned", "class",
        "signup: date, plan: category, monthly: number, tickets: number, cancel_reason: category",
        "true", "Unnamed: 0", {"signup": {"dates": "%m/%d/%Y"}, "cancel_reason": {"learn": False}},
    ),
    Unprepared(
        three_classes_by_tabs, "riesgo", "class",
        "cliente_id: id, fecha: date, ingresos: number, hijos: number, casado: flag, sector: category",
    ),
    Unprepared(
        objects, "违约", "class", "年龄: number, 负债: number, 已婚: flag, 城市: category", "是", "用户",
        {"年龄": {"missing": ["-999"]}},
    ),
]  # fmt: skip


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.make.__name__)
def test_a_config_for_a_table_that_nobody_prepared_works_unchanged(tmp_path: Path, table: Unprepared) -> None:
    name, content = table.make()
    (tmp_path / name).write_bytes(content)
    project = open_project(write(tmp_path, tmp_path / name))
    task: Any = project.config.task
    assert (task.name, task.target, task.predict, task.id) == ("tabular", table.target, table.predict, table.id)
    assert (task.positive or "").casefold() == (table.positive or "")
    assert ", ".join(f"{column}: {section.kind}" for column, section in task.fields.items()) == table.kinds
    for column, settings in table.settings.items():
        assert {key: getattr(task.fields[column], key) for key in settings} == settings, column
    assert not PrepareStage().check(project.sections, project.task, project.places)
    room = FakeRoom(tmp_path / "room")
    report = PrepareStage().run(Job(project.name, project.sections, project.task, {}, room, project.places, 0))
    assert report.numbers["rows_read"] == ROWS
    assert report.numbers["train"] and report.numbers["valid"] and report.numbers["test"]
    assert not [row for row in (room.out / "dropped.jsonl").read_text().splitlines() if "duplicate" not in row]


@pytest.mark.prove
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.make.__name__)
def test_the_loop_of_such_a_config_turns_unchanged(tmp_path: Path, table: Unprepared) -> None:
    name, content = table.make()
    (tmp_path / name).write_bytes(content)
    config = write(tmp_path, tmp_path / name)
    assert states(llmops("run", config, "--json"))["deploy"] == "done"


def test_what_is_left_out_and_what_is_doubtful_is_told(tmp_path: Path) -> None:
    for make in (american, three_classes_by_tabs):
        name, content = make()
        (tmp_path / name).write_bytes(content)
    text = draft(tmp_path / "customers.csv")
    assert "# left out: fax (every cell is empty)" in text
    assert "# left out: country (every cell is US)" in text
    assert "by: group, group: cliente_id" in draft(tmp_path / "solicitudes.tsv")


def table(rows: list[tuple[Any, ...]], header: str, path: Path) -> Path:
    path.write_text(csv_text([tuple(map(str, row)) for row in rows], header))
    return path


def test_a_column_that_gives_the_answer_away_is_kept_from_the_model(tmp_path: Path) -> None:
    rows = [(n % 7, DICE.random(), n % 2 * 100 + DICE.random(), n % 2) for n in range(300)]
    data = table(rows, "a,b,paid_back,default", tmp_path / "loans.csv")
    fields = yaml.safe_load(draft(data))["task"]["fields"]
    assert fields["paid_back"] == {"kind": "number", "learn": False}
    assert fields["b"] == "number"


def test_the_target_can_be_told(tmp_path: Path) -> None:
    rows = [(n % 7, DICE.random(), n % 3, "ab"[n % 2]) for n in range(300)]
    data = table(rows, "a,b,c,default", tmp_path / "t.csv")
    assert yaml.safe_load(draft(data))["task"]["target"] == "default"
    told = yaml.safe_load(draft(data, label="b"))["task"]
    assert (told["target"], told["predict"]) == ("b", "number")
    with pytest.raises(DataError, match="no column `d`"):
        draft(data, label="d")
    assert recognise(data, label="b").task == "tabular"
    unique = table([(f"name{n}", f"x{n}", f"z{n}") for n in range(60)], "p,q,r", tmp_path / "ids.csv")
    with pytest.raises(DataError, match="looks like what is to be predicted"):
        draft(unique, task="tabular")


@pytest.mark.parametrize(
    ("name", "cells", "settings"),
    [
        ("a", ["1.234", "2.500", "12.000"], {"kind": "number"}),
        ("a", ["1.234,5", "2.500,75", "7"], {"kind": "number", "decimal": ","}),
        ("a", ["1,234.5", "2,500.75", "7"], {"kind": "number"}),
        ("a", ["12 %", "7,5 %", "0,25 %"], {"kind": "number", "decimal": ","}),
        ("a", ["2024-01-05", "2024-02-30x", "2024-03-01"], {"kind": "category"}),
        ("a", ["03/04/2024", "25/04/2024", "01/02/2023"], {"kind": "date", "dates": "%d/%m/%Y"}),
        ("a", ["03/24/2024", "05/04/2024", "01/02/2023"], {"kind": "date", "dates": "%m/%d/%Y"}),
        ("day", ["20240105", "20231231", "20220704"], {"kind": "date", "dates": "%Y%m%d"}),
        ("zip", ["10115", "80331", "20095"], {"kind": "category"}),
        ("a", ["tak", "nie", "TAK"], {"kind": "flag"}),
        ("a", ["0", "1", "1"], {"kind": "flag"}),
        ("a", ["yes", "no", "no phone service"], {"kind": "category"}),
        ("a", ["m", "f", "f"], {"kind": "category"}),
        ("a", ["1999", "2024", "2011"], {"kind": "number"}),
    ],
)  # fmt: skip
def test_kinds_are_told_by_the_cells(name: str, cells: list[str], settings: dict[str, Any]) -> None:
    [column] = cells_of([{name: cell} for cell in cells * 20])
    found = guess(column)
    assert FieldSection.model_validate(found.settings) == FieldSection.model_validate(settings)


def test_what_decides_between_thousands_and_decimals(tmp_path: Path) -> None:
    """`1.234` alone is a little; beside a column that can only be read with a comma it is a thousand."""
    rows = [(f"{1 + n % 9}.{100 + n}", f"{n},5", f"x{n % 4}", "ab"[n % 2]) for n in range(90)]
    (tmp_path / "t.csv").write_text("a;b;c;label\n" + "".join(";".join(row) + "\n" for row in rows))
    fields = yaml.safe_load(draft(tmp_path / "t.csv"))["task"]["fields"]
    assert fields["a"] == fields["b"] == {"kind": "number", "decimal": ","}
    assert "decimals or thousands?" in draft(tmp_path / "t.csv")


def test_the_event_of_two_classes() -> None:
    from collections import Counter

    assert positive_of(Counter({"no": 10, "yes": 90})) == "yes"
    assert positive_of(Counter({"good": 10, "bad": 90})) == "bad"
    assert positive_of(Counter({"1": 700, "2": 300})) == "2"
    assert positive_of(Counter({"1": 700, "0": 300})) == "1"


def test_texts_and_tables_are_told_apart(tmp_path: Path) -> None:
    """Texts with a label and a few columns beside are texts; a note beside many columns is one column of a table."""
    said = sentences(ENGLISH, 120)
    few = [(f"T{n}", text, n % 3, f"team {n % 4}") for n, text in enumerate(said)]
    assert recognise(table(few, "ticket,message,priority,team", tmp_path / "a.csv")).task == "text-classification"
    many = [(*[(n * k) % 11 for k in range(1, 9)], text, n % 2) for n, text in enumerate(said)]
    data = table(many, ",".join(f"c{n}" for n in range(8)) + ",note,default", tmp_path / "b.csv")
    assert recognise(data).task == "tabular"
    assert yaml.safe_load(draft(data))["task"]["fields"]["note"] == "text"
    assert recognise(data, text="note", label="default").task == "text-classification"
    shutil.copy(data, tmp_path / "b.txt")
    assert recognise(tmp_path / "b.txt").task == "tabular"


@pytest.mark.skipif(not (SHARED / "german_credit").exists(), reason="german_credit is not beside the checkout")
def test_german_credit_is_a_table() -> None:
    told = yaml.safe_load(draft(SHARED / "german_credit" / "german.csv"))["task"]
    assert (told["name"], told["target"], told["positive"]) == ("tabular", "credit", "2")
    numbers = {name for name, kind in told["fields"].items() if kind == "number"}
    assert numbers == {
        "month", "credit_amount", "investment_as_income_percentage", "residence_since", "age", "number_of_credits",
        "people_liable_for",
    }  # fmt: skip


# --- the tables that ship --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["loans", "rents"])
def test_the_shipped_tables_are_what_their_scripts_make(
    tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte, and small; what the script says about the best model stands in the README."""
    place = ROOT / "data" / folder
    runpy.run_path(str(place / "make.py"))["make"](tmp_path)
    files = sorted(place.glob("*.csv"))
    assert files == sorted(place / path.name for path in tmp_path.iterdir())
    for path in files:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        assert path.stat().st_size < 1_000_000
    told, readme = capsys.readouterr().out, (place / "README.md").read_text()
    for figure in ("0.827", "0.0854", "0.778", "25.1%") if folder == "loans" else ("100.7", "0.953"):
        assert figure in told and figure.replace("%", " %") in readme


def test_the_loans_are_as_they_say() -> None:
    """Young loans that are known are all defaults; missing incomes say something; columns and rows are enough."""
    made = runpy.run_path(str(ROOT / "data" / "loans" / "make.py"))
    rng = np.random.default_rng(1)
    loans = made["draw"](made["TODAY"], made["FIRST"], 900, 20_000, rng)
    risk = made["probability"](loans, made["TODAY"])
    own = loans["employment"] == "self-employed"
    hidden = np.isnan(loans["income"])
    assert 0.5 < hidden[own].mean() < 0.6 and hidden[~own].mean() < 0.05
    assert risk[own & hidden].mean() > 1.5 * risk[own & ~hidden].mean()
    lines = (ROOT / "data" / "loans" / "loans.csv").read_text().splitlines()
    assert len(lines) - 1 >= 8_000 and len(lines[0].split(",")) == 16
    young = [line for line in lines[1:] if line.split(",")[1] > "2025-07-05"]
    assert young and {line.rsplit(",", 1)[1] for line in young} == {"", "yes"}


@pytest.mark.parametrize("name", ["risk", "rents"])
def test_the_shipped_configs_are_valid(name: str) -> None:
    project = open_project(ROOT / "configs" / f"{name}.yaml")
    assert project.task.name == "tabular"
    assert not PrepareStage().check(project.sections, project.task, project.places)
