"""Tables that nobody should have to debug: `llmops prepare` refuses each with one clear message, or goes on and says
what it did."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from llmops.cli import app

COLUMNS = ["id", "day", "amount", "region", "member", "spend", "paid"]
FIELDS = {"day": "date", "amount": "number", "region": "category", "member": "flag", "spend": "number"}
ROWS = 120
FIRST = 2
"""The line of the first row."""
BAD = FIRST + 7
"""The line of the row that `cell` spoils."""
STRICT = {"max_bad_rows": 0}
PREDICTED = {"target": "spend", "predict": "number", "fields": {k: v for k, v in FIELDS.items() if k != "spend"}}
Cells = list[list[str]]


@dataclass(frozen=True)
class Case:
    """`content` of data.csv, what the config says beside, and the words that must be said: of an error by the command,
    of a treatment (code 0) by the command or the report."""

    name: str
    content: str | bytes
    words: tuple[str, ...]
    code: int = 4
    task: dict[str, Any] = field(default_factory=dict)
    prepare: dict[str, Any] = field(default_factory=dict)


def rows(count: int = ROWS, seed: int = 0) -> Cells:
    """Good rows: those of large amounts are paid less often."""
    dice = random.Random(seed)
    return [_row(dice, place) for place in range(count)]


def _row(dice: random.Random, place: int) -> list[str]:
    amount = dice.uniform(1, 900)
    paid = "no" if dice.random() < (0.6 if amount > 500 else 0.2) else "yes"
    day = f"2025-{1 + place % 12:02d}-{1 + place % 28:02d}"
    region, member = dice.choice(["north", "south", "west"]), dice.choice(["yes", "no"])
    return [f"L{dice.randrange(10**6)}", day, f"{amount:.2f}", region, member, str(dice.randrange(90)), paid]


def table(cells: Cells, header: list[str] | None = None, delimiter: str = ",") -> str:
    return "".join(delimiter.join(row) + "\n" for row in [header or COLUMNS, *cells])


def cell(column: str, value: str) -> str:
    """A good table but for one cell."""
    cells = rows()
    cells[BAD - FIRST][COLUMNS.index(column)] = value
    return table(cells)


def all_of(column: str, value: Callable[[int], str]) -> str:
    """A good table but for one column; `value` is called with a row's number."""
    at = COLUMNS.index(column)
    return table([[*row[:at], value(place), *row[at + 1 :]] for place, row in enumerate(rows())])


def more(value: Callable[[list[str]], str], name: str = "more", spoilt: str | None = None) -> str:
    """A good table with one column more; in one row it holds `spoilt`."""
    cells = [[*row, value(row)] for row in rows()]
    if spoilt is not None:
        cells[BAD - FIRST][-1] = spoilt
    return table(cells, [*COLUMNS, name])


def fields(**changed: Any) -> dict[str, Any]:
    return {"fields": {**FIELDS, **changed}}


def split(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"dedup": {"near": None}}, {"split": {"valid": 0.2, "test": 0.2, **settings}}]}


WHERE = f"data.csv:{BAD}"
WIDE = table(
    [[*row, *(str(place * number % 97) for number in range(10_000))] for place, row in enumerate(rows(60))],
    [*COLUMNS, *(f"c{number}" for number in range(10_000))],
)
GERMAN = table(rows(), delimiter=";").replace(".", ",")
YES_AND_NO = ["ja", "NON", "да", "いいえ", "VERO", "ЛОЖЬ", "1", "0.0", "Si\u0301", "t", "아니오", "✓"]
BIG_CELL, BIG_LINE = "x" * 200_000, "x" * 2_000_000
DAYS = [f"{1 + place % 12:02d}/{1 + place % 28:02d}/2025" for place in range(ROWS)]

CASES = [
    # cells
    Case("text in a number", cell("amount", "lots"), (WHERE, "amount: not a number: `lots`"), prepare=STRICT),
    Case("text in a number, among few", cell("amount", "lots"), ("bad rows were left out: amount: not a number 1",), 0),
    Case("1e400", cell("amount", "1e400"), (WHERE, "amount: too large for a number: `1e400`"), prepare=STRICT),
    Case("infinity", cell("amount", "-inf"), (WHERE, "amount: infinite: `-inf`"), prepare=STRICT),
    Case("NaN is missing", all_of("amount", lambda place: "NaN" if place % 4 == 0 else f"{place * 7}"),
         ("amount number missing 0.", "0 dropped"), 0),
    Case("a day that is not", cell("day", "2025-02-30"), (WHERE, "day: no such day: `2025-02-30`"), prepare=STRICT),
    Case("a day of another age", cell("day", "0025-02-03"), (WHERE, "day: a date before 1900"), prepare=STRICT),
    Case("dates in mixed orders", all_of("day", DAYS.__getitem__), ("day: not a date (as %d/%m/%Y)", "`01/13/2025`"),
         task=fields(day={"kind": "date", "dates": "%d/%m/%Y"})),
    Case("dates without a pattern", all_of("day", DAYS.__getitem__),
         ("120 of 120 rows are bad", "day: not a date (write 2026-11-22): `01/01/2025`")),
    Case("a pattern that is none", table(rows()), ("task.fields.day.dates", "dd/mm/yyyy", "%d.%m.%Y"), 3,
         task=fields(day={"kind": "date", "dates": "dd/mm/yyyy"})),
    Case("decimal commas", GERMAN, ("amount: not a number (a comma, where `decimal` is a point)", "data.csv:2")),
    Case("a decimal point where commas are told", GERMAN.replace(",", ".", 9),
         ("amount: not a number (a point, where `decimal` is a comma)", "data.csv:2"), prepare=STRICT,
         task=fields(amount={"kind": "number", "decimal": ","})),
    Case("neither yes nor no", cell("member", "perhaps"), (WHERE, "member: neither yes nor no: `perhaps`"),
         prepare=STRICT),
    Case("yes and no in many languages", all_of("member", lambda place: YES_AND_NO[place % 12]),
         ("120 rows read", "0 dropped", "member flag missing 0; distinct 2"), 0),
    Case("a NUL byte", cell("region", "no\0rth"), (WHERE, "nul_byte"), prepare=STRICT),
    Case("a cell of 200 kB", cell("region", BIG_CELL), (WHERE, "a cell is longer than 131,072 characters"),
         prepare=STRICT),
    Case("a cell of 2 MB", cell("region", BIG_LINE), (WHERE, "line_too_long"), prepare=STRICT),
    Case("a quoted cell of 2 MB, among few", cell("region", f'"{BIG_LINE}"'),
         ("bad rows were left out: line_too_long 1",), 0),
    # rows and files
    Case("an empty file", "", ("data.csv is empty",)),
    Case("only a header", table([]), ("there is not one row in data.csv",)),
    Case("one row", table(rows(1)), ("no rows to train on", "data.csv", "`task.target`")),
    Case("the header again", table(rows()) + table(rows(seed=1)), (f"data.csv:{ROWS + 2}", "header_again"),
         prepare=STRICT),
    Case("ragged rows", cell("paid", "no,more"), (WHERE, "ragged_row: 8 cells where the header has 7"), prepare=STRICT),
    Case("rows of delimiters below", table(rows()) + ",,,,,,\n" * 50, ("120 rows read", "0 dropped"), 0),
    Case("rows of nothing but a target", table([["", "", "", "", "", "", row[-1]] for row in rows()]),
         ("are no rows to train",)),
    Case("twins", table(rows() + rows()), ("240 rows read", "120 dropped", "duplicate"), 0),
    # columns
    Case("a name twice", table(rows(), ["amount" if name == "spend" else name for name in COLUMNS]),
         ("the column `amount` stands more than once", "data.csv:1")),
    Case("a column is missing", table(rows(), ["amuont" if name == "amount" else name for name in COLUMNS]),
         ("no column `amount`", "did you mean `amuont`")),
    Case("ten thousand columns more", WIDE, ("60 rows read", "0 dropped"), 0),
    Case("a column gives the answer away", more(lambda row: "1" if row[-1] == "no" else "0", "late"),
         ("`late` (ROC AUC 1.000) alone gives the answer away", "`learn: false`"), task=fields(late="number")),
    Case("a column only tells rows apart", table(rows()), ("id nearly every row has a value of its own",), 0,
         task=fields(id="category")),
    Case("a column only counts rows",
         table([[*row, str(place)] for place, row in enumerate(rows())], [*COLUMNS, "place"]),
         ("place counts the rows",), 0, task=fields(place="number"), prepare=split(by="time", time="place")),
    Case("a column never changes", all_of("region", lambda place: "north"), ("region one value in all rows",), 0),
    Case("a column is empty", all_of("spend", lambda place: ""), ("spend one value in all rows",), 0),
    Case("a column stands twice", more(lambda row: row[3], "area"), ("region says the same as area",), 0,
         task=fields(area="category")),
    # the target
    Case("the target never changes", all_of("paid", lambda place: "no"), ("only the class `no`", "`task.target`")),
    Case("the target is missing everywhere", all_of("paid", lambda place: "NA"),
         ("120 of 120 rows are bad", "no outcome", "data.csv:2")),
    Case("the target is missing in a row", cell("paid", ""), (WHERE, "no outcome"), prepare=STRICT),
    Case("the target is missing, of numbers", all_of("spend", lambda place: "-"), ("no outcome", "data.csv:2"),
         task=PREDICTED),
    Case("the target is no number", cell("spend", "much"), (WHERE, "spend: not a number: `much`"), task=PREDICTED,
         prepare=STRICT),
    Case("a class with one row", cell("paid", "maybe"), ("fewer than 5 training rows: maybe", "no test row: maybe"), 0),
    Case("the event is no class", table(rows()), ("`positive: maybe` is no value of `paid`", "no, yes"),
         task={"positive": "maybe"}),
    Case("the target is a field", table(rows()), ("`paid` is the target",), 3, task=fields(paid="category")),
    # other columns that the config names
    Case("a weight below 0", more(lambda row: "1", "w", "-1"), (WHERE, "w: no weight"), task={"weight": "w"},
         prepare=STRICT),
    Case("a weight below 0, among few", more(lambda row: "1", "w", "-1"), ("bad rows were left out: w: no weight 1",),
         0, task={"weight": "w"}),
    Case("a weight that is no number", more(lambda row: "1", "w", "heavy"), (WHERE, "w: not a number: `heavy`"),
         task={"weight": "w"}, prepare=STRICT),
    Case("no column of weights", table(rows()), ("no column `w`", "data.csv:1"), task={"weight": "w"}),
    Case("no column of outcome dates", table(rows()), ("no column `granted`",),
         task={"outcome": {"date": "granted", "days": 9}}),
    Case("rows too young for an outcome", table(rows()), ("outcome not known yet",), 0, prepare={"max_bad_rows": 0.5},
         task={"outcome": {"date": "day", "days": 60}}),
    Case("no column of groups", table(rows()), ("no column `customer`",), prepare=split(by="group", group="customer")),
    Case("no column of times", table(rows()), ("no column `when`",), prepare=split(by="time", time="when")),
    Case("times that are none", all_of("id", lambda place: "soon"),
         ("`soon` is neither an ISO date nor a number", "data.csv:2"), prepare=split(by="time", time="id")),
]  # fmt: skip


def test_no_case_stands_twice() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_bad_table_is_told(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    content = case.content.encode() if isinstance(case.content, str) else case.content
    (tmp_path / "data.csv").write_bytes(content)
    task = {"name": "tabular", "target": "paid", "fields": FIELDS, **case.task}
    prepare = {"sources": ["data.csv"], **split(), **case.prepare}
    blocks = {
        "project": "demo",
        "task": task,
        "need": {"probe_s": 0.05},
        "prepare": prepare,
        "train": {"model": "linear"},
    }
    config = tmp_path / "demo.yaml"
    config.write_text(yaml.safe_dump(blocks))
    result = CliRunner().invoke(app, ["prepare", str(config)])
    said = result.output
    assert "Traceback" not in said
    assert result.exit_code == case.code, said
    if case.code == 0:
        said += reported(tmp_path)
    else:
        assert said.count("error: ") == 1, said
        assert "  where  " in said and "  do     " in said, said
        assert not list(tmp_path.glob("runs/demo/*/prepare/done.json")), "a data set was sealed all the same"
    for word in case.words:
        assert word in said, said


def reported(root: Path) -> str:
    """The report of prepare as text: its warnings, and the rows of its tables."""
    [path] = [path for path in root.glob("runs/demo/*/prepare/report.json") if "latest" not in path.parts]
    report = json.loads(path.read_bytes())
    lines = [" ".join(map(str, row)) for shown in report["tables"] for row in shown["rows"]]
    return "\n".join([report["headline"], *report["warnings"], *lines])
