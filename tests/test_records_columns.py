"""Sources as columns: the quick way reads what the careful one reads; joins, Parquet and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.core.errors import DataError
from llmops.fields import kinds_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import Kind
from llmops.fields.rows import Columned
from llmops.records import columns as quick
from llmops.records.columns import ColumnReading, read_columns
from llmops.records.config import SourceSection
from llmops.records.examples import load_examples
from llmops.records.joining import join, unjoined
from llmops.tasks import find
from llmops.tasks.tabular.config import TabularSection

KINDS = kinds_of(
    {
        "when": FieldSection(kind="date", dates="%d.%m.%Y"),
        "amount": FieldSection(kind="number", decimal=",", missing=["k.A."]),
        "place": FieldSection(kind="category"),
        "said": FieldSection(kind="text"),
    }
)
HEADER = "when;amount;place;said;other"
LINES = [
    "22.11.2026;1.234,5;north;wonderful;1", "01.02.2025;k.A.;NA;na;2", "31.02.2025;7;south;no such day;3",
    ";;;only here;4", "03.04.2025;lots;west;größe;5", " 05.04.2025 ; 12,5 € ; east ; spaces ;6",
]  # fmt: skip
PLAIN = "\n".join([HEADER, *LINES]) + "\n"
QUOTED = PLAIN.replace("wonderful", '"two\nlines; ""quoted"""')


def put(root: Path, content: str | bytes, name: str = "data.csv") -> SourceSection:
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return SourceSection(path=name)


def carefully(source: SourceSection, root: Path, kinds: Any = KINDS, extra: Any = None) -> ColumnReading:
    """Read without Arrow's help."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "_plain_csv", lambda *asked: None)
        return read_columns(source, root, kinds, extra or {})


def is_quick(source: SourceSection, root: Path, kinds: Any = KINDS) -> bool:
    return quick._plain_csv(source, root, list(kinds)) is not None


def alike(one: ColumnReading, other: ColumnReading) -> None:
    assert one.columns.table.column_names == other.columns.table.column_names
    assert list(one.columns) == list(other.columns)
    assert one.bad == other.bad
    assert one.rows == other.rows
    for told in ("name", "columns", "encoding", "encoding_found", "delimiter"):
        assert getattr(one.reading, told) == getattr(other.reading, told)


FILES: list[tuple[str, str | bytes, bool]] = [
    ("semicolons and decimal commas", PLAIN, True),
    ("byte order mark", PLAIN.encode("utf-8-sig"), True),
    ("CRLF", PLAIN.replace("\n", "\r\n"), True),
    ("no newline at the end", PLAIN.rstrip("\n"), True),
    ("tabs", PLAIN.replace(";", "\t"), True),
    ("Excel's sep=", "sep=;\n" + PLAIN, True),
    ("Excel's sep= with a mark", ("sep=;\n" + PLAIN).encode("utf-8-sig"), True),
    ("spaces around names", PLAIN.replace("when;amount", " when ; amount "), True),
    ("U+2028 and form feeds in cells", PLAIN.replace("wonderful", "one\u2028two\x0cthree\x85four"), True),
    ("one CR among LF", PLAIN.replace("wonderful;1", "wonderful;1\r22.11.2026;1;a;b;c"), True),
    ("CR only, as old Macs", PLAIN.replace("\n", "\r"), True),
    ("quoted newlines", QUOTED, False),
    ("latin-1", PLAIN.replace("€", "£").encode("latin-1"), False),
    ("UTF-16", PLAIN.encode("utf-16"), False),
    ("a stray byte where nobody asked", PLAIN.encode() + b"01.01.2025;1;a;b;\xff\n" + "ä;;;;\n".encode() * 99, False),
    ("ragged rows", PLAIN + "01.01.2025;1;a\n01.01.2025;1;a;b;c;d\n", False),
    ("a delimiter too many", PLAIN.replace("wonderful;1", "wonderful;1;"), False),
    ("rows of delimiters", PLAIN + ";;;;\n;;;;\n", False),
    ("nothing in the columns that are asked for", PLAIN + ";;;;9\n", False),
    ("blank lines", PLAIN.replace("\n", "\n\n"), False),
    ("blank lines with CRLF", PLAIN.replace("\n", "\r\n\r\n"), False),
    ("a line of blanks", PLAIN + "   \n" + LINES[0] + "\n", False),
    ("NUL bytes", PLAIN.replace("north", "no\0rth"), False),
    ("the header again", PLAIN + PLAIN, False),
    ("a line too long", PLAIN.replace("wonderful", "x" * 2_000_000), False),
    ("a cell beyond csv's limit", PLAIN.replace("wonderful", "x" * 200_000), False),
    ("a long cell that is fine", PLAIN.replace("wonderful", "x" * 100_000), True),
    ("an open quote", PLAIN.replace("wonderful", '"never closed'), False),
]  # fmt: skip


@pytest.mark.parametrize(("content", "fast"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_the_quick_way_reads_what_the_careful_one_reads(tmp_path: Path, content: str | bytes, fast: bool) -> None:
    source = put(tmp_path, content)
    assert is_quick(source, tmp_path) == fast
    extra = {"group": "other"}
    alike(read_columns(source, tmp_path, KINDS, extra), carefully(source, tmp_path, KINDS, extra))


def test_what_is_read(tmp_path: Path) -> None:
    reading = read_columns(put(tmp_path, PLAIN), tmp_path, KINDS, {"group": "other"})
    rows = list(reading.columns)
    assert [row["origin"] for row in rows] == ["data.csv:2", "data.csv:3", "data.csv:5", "data.csv:7"]
    assert rows[0] == {
        "when": datetime(2026, 11, 22), "amount": 1234.5, "place": "north", "said": "wonderful", "group": "1",
        "origin": "data.csv:2",
    }  # fmt: skip
    assert (rows[1]["amount"], rows[1]["place"], rows[1]["said"]) == (None, None, "na")
    assert (rows[3]["amount"], rows[3]["place"]) == (12.5, "east")
    told = [(bad.origin, bad.reason, bad.detail) for bad in reading.bad]
    assert told == [
        ("data.csv:4", "when: not a date (as %d.%m.%Y)", "`31.02.2025`"),
        ("data.csv:6", "amount: not a number", "`lots`"),
    ]
    assert (reading.rows, reading.reading.delimiter, reading.reading.encoding) == (6, ";", "utf-8")


def test_a_limit_is_kept(tmp_path: Path) -> None:
    assert read_columns(put(tmp_path, PLAIN), tmp_path, KINDS, {}, limit=2).rows == 2


CELLS = st.text("ab1,.;\t \n\r\"'äÄ\u2028NAna-", max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6), raw=st.booleans(), end=st.sampled_from("\n\r")
)
def test_any_table_is_read_alike_both_ways(rows: list[list[str]], raw: bool, end: str) -> None:
    """Written by Python's csv, or just stuck together, whatever that gives."""
    stream = io.StringIO()
    if raw:
        stream.write("a,b,c\n" + "".join(",".join(row) + end for row in rows))
    else:
        csv.writer(stream, lineterminator=end).writerows([["a", "b", "c"], *rows])
    kinds = kinds_of({"a": FieldSection(kind="text"), "c": FieldSection(kind="number")})
    with tempfile.TemporaryDirectory() as folder:
        source = put(Path(folder), stream.getvalue())
        alike(read_columns(source, Path(folder), kinds, {}), carefully(source, Path(folder), kinds))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("when;amount;plaec;said;other", ("no column `place`", "did you mean `plaec`")),
        ("when;amount;place;said;said", ("`said` stands more than once",)),
        (";;;;", ("no header row",)),
    ],
)
def test_what_is_wrong_with_a_header_is_told(tmp_path: Path, header: str, words: tuple[str, ...]) -> None:
    source = put(tmp_path, PLAIN.replace(HEADER, header))
    with pytest.raises(DataError) as told:
        read_columns(source, tmp_path, KINDS, {})
    said = "\n".join(told.value.mistakes[0].lines())
    assert all(word in said for word in words), said


def test_columns_that_nobody_asked_for_are_noted(tmp_path: Path) -> None:
    put(tmp_path, "a,b,c,d,y\n1,2,3,4,x\n2,3,4,5,z\n")
    task = find("tabular")
    section = TabularSection(target="y", fields={name: FieldSection(kind="number") for name in "ac"})
    found = load_examples(["data.csv"], tmp_path, task, section, extra={"group": "d"})
    assert [note.unused for note in found.notes] == [("b",)]


# --- Parquet, JSON lines ---------------------------------------------------------------------------------------------

TYPED = kinds_of(
    {
        "when": FieldSection(kind="date"), "amount": FieldSection(kind="number"),
        "place": FieldSection(kind="category"), "owns": FieldSection(kind="flag"),
    }
)  # fmt: skip


def test_parquet_is_read_as_it_lies(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([date(2026, 1, 2), None, date(1066, 1, 1)]), "amount": pa.array([1, None, 3], pa.int32()),
            "place": pa.array(["north", None, "south"]).dictionary_encode(), "owns": pa.array([True, False, None]),
            "more": pa.array([[1], [], None]),
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "data.parquet")
    reading = read_columns(SourceSection(path="data.parquet"), tmp_path, TYPED, {"group": "amount"})
    assert [row["amount"] for row in reading.columns] == [1.0, None]
    assert next(iter(reading.columns)) == {
        "when": datetime(2026, 1, 2), "amount": 1.0, "place": "north", "owns": True, "group": "1",
        "origin": "data.parquet:1",
    }  # fmt: skip
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [
        ("data.parquet:3", "when: a date before 1900 or after 2200")
    ]


def test_parquet_with_decimals_and_days_that_python_lacks(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([10**15, 86_400], pa.timestamp("ms")), "amount": pa.array([Decimal("1.50"), None]),
            "place": pa.array([1.0, 2.0]), "owns": pa.array([1, 0], pa.int8()),
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "data.parquet")
    reading = read_columns(SourceSection(path="data.parquet"), tmp_path, TYPED, {})
    assert [(row["place"], row["owns"]) for row in reading.columns] == [("2", False)]
    assert [bad.origin for bad in reading.bad] == ["data.parquet:1"]


def test_a_column_twice_in_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["amount", "amount"])
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(DataError, match="`amount` stands more than once"):
        read_columns(SourceSection(path="data.parquet"), tmp_path, {"amount": TYPED["amount"]}, {})


def lines_of(root: Path, rows: list[Any], name: str = "data.jsonl") -> SourceSection:
    return put(root, "\n".join(json.dumps(row) for row in rows), name)


def test_json_lines_hold_whatever_they_hold(tmp_path: Path) -> None:
    """Cells of several types in a column, numbers that JSON lacks, keys that are not there, lists."""
    source = lines_of(
        tmp_path,
        [
            {"when": "2026-01-02", "amount": 1, "place": 2.0, "owns": True},
            {"when": None, "amount": "1,234.5", "place": "two", "owns": "no"},
            {"place": True, "owns": 0},
            {"amount": [1, 2], "place": "a"},
            {"amount": float("inf"), "place": "b"},
            {"amount": float("nan"), "place": float("nan"), "owns": 1.0, "more": {}},
            {"amount": 10**400, "place": "c"},
        ],
    )
    reading = read_columns(source, tmp_path, TYPED, {})
    assert [(row["amount"], row["place"], row["owns"]) for row in reading.columns] == [
        (1.0, "2", True), (1234.5, "two", False), (None, "true", False), (None, None, True),
    ]  # fmt: skip
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [
        ("data.jsonl:4", "amount: not a number"),
        ("data.jsonl:5", "amount: infinite"),
        ("data.jsonl:7", "amount: too large for a number"),
    ]


def test_a_code_is_the_same_in_every_piece_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece has whole numbers, the next has not: 2 stays 2 and is not 2.0."""
    monkeypatch.setattr(quick, "PIECE", 2)
    cells: list[Any] = [2, 3, 2.0, 2.5, None, None, "x", 2, True, 2]
    source = lines_of(tmp_path, [{"place": cell, "amount": 1} for cell in cells])
    kinds = {name: TYPED[name] for name in ("place", "amount")}
    found = read_columns(source, tmp_path, kinds, {"group": "place"}).columns
    assert found.values("place") == found.values("group") == ["2", "3", "2", "2.5", None, None, "x", "2", "true", "2"]


def test_a_key_that_no_row_has_is_a_missing_column(tmp_path: Path) -> None:
    source = lines_of(tmp_path, [{"amount": 1, "plaec": "a"}, {"amount": None}])
    with pytest.raises(DataError, match=r"data\.jsonl has no column `place`") as told:
        read_columns(source, tmp_path, {name: TYPED[name] for name in ("amount", "place")}, {})
    assert "did you mean `plaec`" in told.value.mistakes[0].do


# --- joins -----------------------------------------------------------------------------------------------------------

JOINED: dict[str, Kind] = kinds_of(
    {"amount": FieldSection(kind="number"), "age": FieldSection(kind="number"), "town": FieldSection(kind="category")}
)


def joined(root: Path, *sources: SourceSection, kinds: dict[str, Kind] | None = None) -> Columned:
    kinds = kinds or JOINED
    beside = unjoined(sources, root, kinds, None)
    first = {name: kind for name, kind in kinds.items() if name not in beside.names}
    [main] = [source for source in sources if source.join is None]
    return join(read_columns(main, root, beside.with_keys(first), {}).columns, beside, list(kinds))


def people(root: Path, content: str, name: str = "people.csv", key: str = "person") -> SourceSection:
    put(root, content, name)
    return SourceSection(path=name, join=key)


LOANS = "person,amount\n7,10\n8,20\n,30\n9,40\n7,50\n"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_columns_of_another_table_stand_beside(tmp_path: Path, form: str) -> None:
    """By a key that is text here and a number there; rows without a key or a match have no values."""
    rows = [
        {"person": 8.0, "age": 30, "town": "Bern"},
        {"person": 7.0, "age": 40, "town": None},
        {"person": None, "age": 1},
    ]
    if form == "csv":
        beside = people(tmp_path, "person,age,town\n8,30,Bern\n7,40,\n,1,Ulm\n")
    elif form == "jsonl":
        lines_of(tmp_path, rows, "people.jsonl")
        beside = SourceSection(path="people.jsonl", join="person")
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "people.parquet")
        beside = SourceSection(path="people.parquet", join="person")
    found = joined(tmp_path, put(tmp_path, LOANS), beside)
    assert found.table.column_names == ["amount", "age", "town", "(origin)"]
    assert [(row["amount"], row["age"], row["town"]) for row in found] == [
        (10, 40, None), (20, 30, "Bern"), (30, None, None), (40, None, None), (50, 40, None),
    ]  # fmt: skip
    assert found.values("origin")[0] == "data.csv:2"


def test_rows_without_a_match_are_counted(tmp_path: Path) -> None:
    main, other = put(tmp_path, LOANS), people(tmp_path, "person,age,town\n7,40,a\n8,30,b\n")
    beside = unjoined([main, other], tmp_path, JOINED, None)
    rows = read_columns(main, tmp_path, beside.with_keys({"amount": JOINED["amount"]}), {}).columns
    join(rows, beside, list(JOINED))
    assert [reading.unmatched for reading in beside.readings] == [2]


def test_a_key_that_stands_twice_is_refused_with_both_rows(tmp_path: Path) -> None:
    beside = people(tmp_path, "person,age,town\n7,40,a\n8,30,b\n7,41,c\n")
    with pytest.raises(DataError, match=r"the key '7' stands more than once in the column `person`") as told:
        joined(tmp_path, put(tmp_path, LOANS), beside)
    assert told.value.mistakes[0].where == "people.csv:2 and people.csv:4"


def test_the_first_table_that_has_a_column_brings_it(tmp_path: Path) -> None:
    main = put(tmp_path, "person,amount,town\n7,10,ours\n")
    one = people(tmp_path, "person,age,town\n7,40,theirs\n")
    two = people(tmp_path, "person,age\n7,99\n", "more.csv")
    [row] = list(joined(tmp_path, main, one, two))
    assert (row["amount"], row["age"], row["town"]) == (10, 40, "ours")


def test_rows_that_each_have_their_own_columns_are_joined_to(tmp_path: Path) -> None:
    lines_of(tmp_path, [{"person": 7, "amount": 1}, {"person": "8", "amount": 2}])
    found = joined(tmp_path, SourceSection(path="data.jsonl"), people(tmp_path, "person,age,town\n7,40,a\n8,30,b\n"))
    assert [(row["age"], row["town"]) for row in found] == [(40, "a"), (30, "b")]


def test_the_key_may_be_a_field(tmp_path: Path) -> None:
    kinds = {**JOINED, "person": TYPED["amount"]}
    found = joined(tmp_path, put(tmp_path, LOANS), people(tmp_path, "person,age,town\n7,40,a\n"), kinds=kinds)
    assert found.values("person") == [7, 8, None, 9, 7]
    assert found.values("age") == [40, None, None, None, 40]


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ("who,age,town\n7,1,a\n", "people.csv has no column `person`"),
        ("person,age\n7,1\n", "data.csv has no column `town`"),
    ],
)
def test_what_a_join_lacks_is_told(tmp_path: Path, beside: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        joined(tmp_path, put(tmp_path, LOANS), people(tmp_path, beside))


def test_the_main_table_must_have_the_key(tmp_path: Path) -> None:
    beside = people(tmp_path, "person,age,town\n7,1,a\n")
    with pytest.raises(DataError, match=r"data\.csv has no column `person`"):
        joined(tmp_path, put(tmp_path, "amount\n1\n"), beside)


def test_bad_cells_of_a_table_beside_are_told(tmp_path: Path) -> None:
    beside = unjoined(
        [put(tmp_path, LOANS), people(tmp_path, "person,age,town\n7,old,a\n8,3,b\n")], tmp_path, JOINED, None
    )
    [reading] = beside.readings
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [("people.csv:2", "age: not a number")]
    assert beside.names == {"age", "town"}
