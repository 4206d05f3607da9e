"""The contract of every kind of field: what is read, and that columns, keys, cleaning, drift and schema agree."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops.fields import KINDS, kind_of, kinds_of
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep, FieldSection
from llmops.fields.flag import NO, YES
from llmops.fields.hashing import key_of
from llmops.fields.kind import BadCell, Column, Kind
from llmops.fields.number import FACTORS
from llmops.fields.permutation import holm
from llmops.fields.redaction import KINDS as PERSONAL
from llmops.fields.redaction import redact
from llmops.fields.rowkeys import row_keys

Dice = np.random.Generator
ROWS, SEEDS = 500, 20
P_LIMIT, EFFECT_LIMIT = 0.01, 0.08
"""As feedback has them by default."""
CLEAN = CleanStep(unicode="NFKC", lowercase=True, redact=list(PERSONAL))
ABSENT = ["", "  ", "NA", "n/a", "NaN", "null", "None", "-", "?"]
WORDS = "parcel refund invoice login coupon courier address size gift receipt box label return shop shoes lamp".split()
OTHERS = "kernel tensor gradient optimiser epoch batch neuron layer matrix vector scalar loss weight bias".split()
DAY_S = 86_400.0


@dataclass(frozen=True)
class Sample:
    """What the suite needs to know of one kind."""

    good: list[tuple[Any, Any]]
    """(cell, value)"""
    bad: list[tuple[Any, str]]
    """(cell, words of the message)"""
    equal: list[tuple[Any, Any]]
    """Pairs of values that are one."""
    different: list[tuple[Any, Any]]
    draw: Callable[[Dice, int], list[Any]]
    """So many values of one distribution, missing ones among them."""
    moved: Callable[[Dice, int], list[Any]] | None
    """The same from another distribution; None where nothing can move."""
    schema: dict[str, Any]
    absent: list[str] = field(default_factory=lambda: ABSENT)
    """Cells that mean that there is no value."""


def some(draw: Callable[[Dice], Any]) -> Callable[[Dice, int], list[Any]]:
    """So many draws, one in twenty missing."""
    return lambda rng, rows: [None if rng.random() < 0.05 else draw(rng) for _ in range(rows)]


def sentence(words: list[str]) -> Callable[[Dice], str]:
    return lambda rng: " ".join(rng.choice(words, 6))


def moment(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


LIST_OF_ALL: list[tuple[Any, str]] = [(["a"], "more than one value"), ({"a": 1}, "more than one value")]

SAMPLES = {
    "category": Sample(
        good=[
            (" north  west ", "north west"), ("m", "m"), ("M", "M"), (2, "2"), (2.0, "2"), (2.5, "2.5"),
            (Decimal("2.50"), "2.5"), (True, "true"), (np.int64(7), "7"), (date(2026, 1, 2), "2026-01-02"),
            ("00123", "00123"), ("half \ud800", "half \ufffd"), (1e300, "1e+300"), (float("nan"), None), (None, None),
        ],
        bad=[*LIST_OF_ALL, (b"raw", "not words")],
        equal=[("a", "a")], different=[("a", "A"), ("a", "b"), ("1", "01"), (None, "a"), ("a b", "ab")],
        draw=some(lambda rng: str(rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1]))),
        moved=some(lambda rng: str(rng.choice(["a", "b", "c"], p=[0.2, 0.3, 0.5]))),
        schema={"type": ["string", "null"], "x-control": "select"},
    ),
    "date": Sample(
        good=[
            ("2026-11-22", moment(2026, 11, 22)), (" 2026-11-22T13:30 ", moment(2026, 11, 22, 13, 30)),
            ("2026-11-22 13:30:05+02:00", moment(2026, 11, 22, 11, 30, 5)), ("1900-01-01", moment(1900, 1, 1)),
            (date(2026, 11, 22), moment(2026, 11, 22)), (datetime(2026, 11, 22, 1), moment(2026, 11, 22, 1)),
            (datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=1))), moment(2026, 11, 22)),
            (float("nan"), None), (None, None),
        ],
        bad=[
            ("2026-02-30", "no such day"), ("22.11.2026", "not a date (write 2026-11-22)"), ("20261122", "not a date"),
            ("03/04/2026", "not a date"), (20261122, "not a date"), (True, "not a date"), (1.5, "not a date"),
            ("1899-12-31", "before 1900"), ("9999-12-31", "after 2200"), (date(2201, 1, 1), "after 2200"),
            ("soon", "not a date"), *[(cell, "not a date") for cell, _ in LIST_OF_ALL],
        ],
        equal=[(0.0, -0.0), (moment(2026, 1, 1), moment(2026, 1, 1))],
        different=[(0.0, DAY_S), (0.0, 1.0), (None, 0.0)],
        draw=some(lambda rng: moment(2025, 1, 1) + DAY_S * int(rng.integers(0, 365))),
        moved=None,  # time passes
        schema={"type": ["string", "null"], "format": "date-time", "x-control": "date"},
    ),
    "flag": Sample(
        good=[
            ("yes", True), (" NO ", False), (1, True), (0.0, False), ("1.0", True), (True, True),
            (np.bool_(False), False),
            ("WAHR", True), ("ЛОЖЬ", False), ("si\u0301", True), (Decimal(1), True), (float("nan"), None), (None, None),
        ],
        bad=[
            ("perhaps", "neither yes nor no"), (2, "neither"), ("yes and no", "neither"), (-1, "neither"), *LIST_OF_ALL,
        ],
        equal=[(True, True), (True, 1.0), (False, -0.0)], different=[(True, False), (None, False), (None, True)],
        draw=some(lambda rng: bool(rng.random() < 0.3)), moved=some(lambda rng: bool(rng.random() < 0.7)),
        schema={"type": ["boolean", "null"], "x-control": "switch"},
    ),
    "id": Sample(
        good=[
            (" L-1 ", "L-1"), (7, "7"), (7.0, "7"), (2**70, str(2**70)), ("007", "007"), ("a  b", "a  b"),
            (float("nan"), None), (None, None),
        ],
        bad=[*LIST_OF_ALL, (b"raw", "not words")],
        equal=[("a", "a")], different=[("a", "A"), ("1", "01"), (None, "a")],
        draw=lambda rng, rows: [f"id{number}" for number in rng.integers(0, 10**9, rows)], moved=None,
        schema={"type": ["string", "number", "null"], "x-control": "box"},
    ),
    "number": Sample(
        good=[
            ("5", 5.0), (" -2.5e3 ", -2500.0), ("1,234.5 €", 1234.5), ("$1,234", 1234.0), ("-$5", -5.0), ("12 %", 12.0),
            ("1 234 567", 1234567.0), ("1'234.5", 1234.5), ("\u22127", -7.0), ("+3", 3.0), (".5", 0.5), ("5.", 5.0),
            (7, 7.0), (True, 1.0), (Decimal("1.25"), 1.25), (np.float32(0.5), 0.5), ("1e-400", 0.0), ("EUR 12", 12.0),
            (float("nan"), None), (None, None),
        ],
        bad=[
            ("abc", "not a number"), ("12 apples", "not a number"), ("1,5", "a comma, where `decimal` is a point"),
            ("0,125", "a comma"), ("1e400", "too large"), (10**400, "too large"), (Decimal("1e999"), "too large"),
            ("inf", "infinite"), ("-Infinity", "infinite"), (float("inf"), "infinite"), ("0x10", "not a number"),
            ("1_000", "not a number"), ("１２", "not a number"), ("--5", "not a number"), ("1 2", "not a number"),
            ("2026-01-01", "not a number"), (date(2026, 1, 1), "not a number"), (Decimal("sNaN"), "not a number"),
            *[(cell, "not a number") for cell, _ in LIST_OF_ALL],
        ],
        equal=[(0.0, -0.0), (1.0, 1)], different=[(0.0, 5e-324), (1.0, 1.0000000000000002), (None, 0.0), (1.0, -1.0)],
        draw=some(lambda rng: round(float(rng.lognormal(7, 0.5)), 2)),
        moved=some(lambda rng: round(float(rng.lognormal(7.5, 0.5)), 2)),
        schema={"type": ["number", "null"], "x-control": "number"},
    ),
    "text": Sample(
        good=[
            (" two  words ", "two  words"), ("NA", "NA"), ("none", "none"), (3, "3"), (3.0, "3"),
            ("half \ud800", "half \ufffd"), (float("nan"), None), (None, None),
        ],
        bad=[*LIST_OF_ALL, (b"raw", "not words")],
        equal=[("Where's it?", "wheres  IT"), ("ﬁne", "FINE")],
        different=[("a", "b"), ("?!", "..."), (None, "a"), ("ab", "a b")],
        draw=some(sentence(WORDS)), moved=some(sentence(OTHERS)), absent=["", "  ", "\t"],
        schema={"type": ["string", "null"], "x-control": "box"},
    ),
}  # fmt: skip


def kind(name: str, **settings: Any) -> Kind:
    return kind_of(FieldSection(kind=name, **settings))


def drawn(name: str, seed: int = 0, rows: int = ROWS) -> Column:
    return kind(name).column(SAMPLES[name].draw(np.random.default_rng(seed), rows))


def same(one: Any, other: Any) -> bool:
    """Equal, missing ones too; 0.0 and -0.0 are one."""
    return bool(one == other or (one != one and other != other))


def by_cells(of: Kind, cells: list[Any]) -> tuple[list[Any], dict[int, str]]:
    """What `read` makes of the cells, one by one: values (None where bad), and why bad ones are."""
    values: list[Any] = []
    bad = {}
    for place, cell in enumerate(cells):
        try:
            values.append(of.read(cell))
        except BadCell as error:
            values.append(None)
            bad[place] = str(error)
    return values, bad


def agree(of: Kind, cells: list[Any], column: pa.Array | pa.ChunkedArray) -> None:
    """`read_column` says of a column what `read` says of its cells."""
    values, bad = by_cells(of, cells)
    found = of.read_column(column)
    assert found.bad == bad
    expected, got = of.column(values).tolist(), of.numpy(found.values).tolist()
    wrong = [(cell, a, b) for cell, a, b in zip(cells, expected, got, strict=True) if not same(a, b)]
    assert not wrong, wrong[:5]


@pytest.fixture(params=sorted(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_kind_is_tested() -> None:
    assert set(SAMPLES) == set(KINDS)
    made = kinds_of({name: FieldSection(kind=name) for name in KINDS})
    assert {name: of.name for name, of in made.items()} == {name: name for name in KINDS}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_good_cells_are_read(name: str) -> None:
    for cell, value in SAMPLES[name].good:
        found = kind(name).read(cell)
        assert found == value and type(found) is type(value), (cell, found)


def test_cells_without_a_value_are_missing(name: str) -> None:
    told = kind(name, missing=["-999", " k.A. "])
    for cell in [None, float("nan"), *SAMPLES[name].absent, "-999", "K.a.", " k.A. "]:
        assert told.read(cell) is None, cell


def test_bad_cells_say_what_is_wrong(name: str) -> None:
    for cell, words in SAMPLES[name].bad:
        with pytest.raises(BadCell) as told:
            kind(name).read(cell)
        assert words in str(told.value), cell
        assert len(str(told.value)) < 80, "the reasons of bad cells are counted, so they don't quote the cell"


def test_a_column_is_read_as_its_cells(name: str) -> None:
    """Of every type that a file may give a column, mixed with what is missing and what is bad."""
    sample, of = SAMPLES[name], kind(name, missing=["-999", "k.A."])
    cells = [cell for cell, _ in [*sample.good, *sample.bad]]
    texts: list[str | None] = [cell for cell in cells if isinstance(cell, str) and cell.isprintable()]
    texts += ["", *ABSENT, "nAn", "-999", "K.A.", "-999.0", "\t5\t", "1e5", "-0.0", "\u00a07\u00a0", None, *texts]
    agree(of, texts, pa.array(texts))
    agree(of, texts, pa.array(texts).dictionary_encode())
    agree(of, texts, pa.array(texts, pa.large_string()))
    agree(of, texts + texts, pa.chunked_array([pa.array(texts), pa.array(texts)]))
    columns: list[list[Any]] = [
        [], [None, None], ["", ""], ["1", "2"], [1, 0, None, -999, 2**53], [1.0, 0.0, 2.5, None, -999.0, float("inf")],
        [True, None, False], [date(2026, 1, 2), None, date(1066, 1, 1)], [datetime(2026, 1, 2, 3, 4, 5, 600_000), None],
        [datetime(1899, 12, 31, 23, 59, 59, 900_000), datetime(2200, 12, 31, 23, 59, 59, 400_000)],
        [datetime(2026, 1, 2, tzinfo=UTC), None], [Decimal("1.50"), Decimal("-999"), None], [[1, 2], None], [{"a": 1}],
        [b"raw", None], [timedelta(1), None],
    ]  # fmt: skip
    for cells in columns:
        agree(of, cells, pa.array(cells))
        agree(kind(name), cells, pa.array(cells))


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.none()
        | st.text(max_size=8)
        | st.text("0123456789.,+-eE '’%€naifNI", max_size=9)
        | st.floats().map(repr)
        | st.integers().map(str)
        | st.datetimes().map(str)
        | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())
        | st.sampled_from(sorted(YES | NO | {"", "NA", "n/a", "-999"}))
    )
)
@pytest.mark.parametrize("decimal", [".", ","])
def test_any_texts_are_read_by_the_column_as_one_by_one(decimal: str, cells: list[str | None]) -> None:
    for each in KINDS:
        agree(kind(each, decimal=decimal, missing=["-999", "x"]), cells, pa.array(cells, pa.string()))


@settings(max_examples=40, deadline=None)
@given(
    columns=st.one_of(
        st.lists(st.none() | st.floats(width=64)),
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
        st.lists(st.none() | st.booleans()),
        st.lists(st.none() | st.dates()),
        st.lists(st.none() | st.datetimes()),
        st.lists(st.none() | st.datetimes(timezones=st.just(UTC))),
    )
)
def test_any_typed_column_is_read_as_one_by_one(columns: list[Any]) -> None:
    for each in KINDS:
        agree(kind(each), columns, pa.array(columns, from_pandas=False))


FAR = [
    pa.array([10**15, 86_400, None], pa.timestamp("s")), pa.array([10**8, 1, None], pa.date32()),
    pa.array([2**62, 86_400_000, None], pa.date64()), pa.array([2**62, 86_400_000_000, None], pa.timestamp("us")),
]  # fmt: skip


@pytest.mark.parametrize("column", FAR, ids=lambda column: str(column.type))
def test_days_that_python_lacks_never_stop_a_column(name: str, column: pa.Array) -> None:
    for of in (kind(name), kind(name, missing=["x"])):
        found = of.read_column(column)
        assert len(found.values) == 3
        if name == "date":
            assert list(found.bad) == [0]
            assert of.numpy(found.values).tolist()[1] == DAY_S


def test_a_million_numbers_take_no_python(name: str) -> None:
    """Distinct cells are read once, so that a column of few values costs next to nothing."""
    cells = pa.array([str(cell) for cell, _ in SAMPLES[name].good[:2]] * 5).dictionary_encode()
    of, calls = kind(name), []
    plain = of.read
    of.read = lambda cell: calls.append(cell) or plain(cell)  # type: ignore[method-assign,func-returns-value]
    of.read_column(cells)
    assert len(calls) <= 2


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.234,5", 1234.5),
        ("1 234,5 €", 1234.5),
        ("0,125", 0.125),
        ("-7,5", -7.5),
        ("12", 12.0),
        ("1.234.567", 1234567.0),
    ],
)
def test_decimal_commas(cell: str, value: float) -> None:
    of = kind("number", decimal=",")
    assert of.read(cell) == value
    agree(of, [cell, "1.5", None], pa.array([cell, "1.5", None]))
    with pytest.raises(BadCell, match="a point, where `decimal` is a comma"):
        of.read("1.5")


def test_dates_as_the_config_says() -> None:
    of = kind("date", dates="%d.%m.%Y", missing=["01.01.1900"])
    assert of.read("22.11.2026") == moment(2026, 11, 22)
    assert of.read("01.01.1900") is None
    assert of.read(date(2026, 11, 22)) == moment(2026, 11, 22), "a typed cell needs no pattern"
    with pytest.raises(BadCell, match=r"as %d\.%m\.%Y"):
        of.read("2026-11-22")


@pytest.mark.parametrize("dates", ["dd.mm.yyyy", "%Q", "%d.%d.%Y", "%H:%M", "%", "DD/MM"])
def test_a_pattern_that_reads_no_dates_is_a_mistake_of_the_config(dates: str) -> None:
    with pytest.raises(ValidationError, match="no way to write dates"):
        FieldSection(kind="date", dates=dates)


@pytest.mark.parametrize(
    "dates", ["%d.%m.%Y", "%m/%d/%y", "%Y%m%d", "%Y", "%m/%Y", "%d %b %Y %H:%M", "%Y-%m-%dT%H:%M:%S%z"]
)
def test_patterns_that_people_use_are_taken(dates: str) -> None:
    assert kind("date", dates=dates).read(datetime(2026, 11, 22, tzinfo=UTC).strftime(dates)) is not None


def test_words_for_yes_and_no_are_apart_and_composed() -> None:
    assert not YES & NO
    for words in (YES, NO):
        assert {unicodedata.normalize("NFC", word.casefold()) for word in words} == words


# --- columns ---------------------------------------------------------------------------------------------------------


def test_columns_go_to_arrow_and_back(name: str) -> None:
    of, column = kind(name), drawn(name)
    there = of.arrow(column)
    assert there.type == of.read_column(pa.array(["1", None])).values.type
    back = of.numpy(there)
    assert back.dtype == column.dtype == (np.dtype(np.float64) if of.numeric else np.dtype(object))
    assert all(map(same, back.tolist(), column.tolist()))
    for few in (column[:0], of.column([None, None])):
        assert len(of.numpy(of.arrow(few))) == len(few)
        assert of.arrow(few).type == there.type


def test_a_value_that_was_read_is_read_again_as_itself(name: str) -> None:
    """What a data set holds goes through `read` once more when a logged request is harvested."""
    of = kind(name)
    for cell, _ in SAMPLES[name].good:
        value = of.read(cell)
        if name != "date":  # seconds since 1970 are how a date is held; requests hold text
            assert of.read(value) == value
    if name == "date":
        found = drawn(name)
        assert [of.read(of.shown(value)) for value in found[~np.isnan(found)]] == found[~np.isnan(found)].tolist()  # type: ignore[attr-defined]


# --- equality --------------------------------------------------------------------------------------------------------


def test_keys_are_equal_where_values_are(name: str) -> None:
    of = kind(name)
    pairs = [(pair, True) for pair in SAMPLES[name].equal] + [(pair, False) for pair in SAMPLES[name].different]
    pairs += [((None, None), True)]
    for (one, other), equal in pairs:
        left, right = of.keys(of.column([one, other]))
        assert (of.key(one) == of.key(other)) == equal, (one, other)
        assert (left == right) == equal, (one, other)


def test_both_kinds_of_keys_agree(name: str) -> None:
    of, column = kind(name), drawn(name)
    keys = of.keys(column)
    plain = [of.key(None if value != value else value) for value in column.tolist()]
    assert keys.dtype == np.uint64
    assert len({*zip(keys.tolist(), plain, strict=True)}) == len(set(plain)) == len(set(keys.tolist()))


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(st.text(max_size=4) | st.floats().map(repr) | st.integers(0, 3).map(str), max_size=12))
def test_keys_of_any_values_agree(cells: list[str]) -> None:
    for each in KINDS:
        of = kind(each)
        values, _ = by_cells(of, cells)
        keys, plain = of.keys(of.column(values)).tolist(), [of.key(value) for value in values]
        assert len({*zip(keys, plain, strict=True)}) == len(set(plain)) == len(set(keys))


def test_rows_are_equal_by_all_their_fields() -> None:
    of = kind("category")
    a, b = of.keys(of.column(["x", "y", "x"])), of.keys(of.column(["y", "x", "y"]))
    keys = row_keys({"a": a, "b": b})
    assert keys[0] == keys[2] != keys[1], "swapped values are another row"
    assert (row_keys({"b": b, "a": a}) == keys).all(), "the order of the fields says nothing"
    assert (row_keys({"a": a}) == a).all()
    assert key_of("x") == a[0], "a single field's rows have the keys that they always had"


# --- cleaning, redaction ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    cell=st.text(max_size=40)
    | st.sampled_from(["mail a@b.example now", "+49 170 1234567", "12.5", "2026-01-02", "yes"])
)
def test_cleaning_and_redacting_twice_changes_nothing(cell: str) -> None:
    for each in KINDS:
        of = kind(each)
        [value], _ = by_cells(of, [cell])
        once = of.cleaned(value, CLEAN)
        assert of.cleaned(once, CLEAN) == once
        hidden = of.redacted(value, lambda text: redact(text, list(PERSONAL)))
        assert of.redacted(hidden, lambda text: redact(text, list(PERSONAL))) == hidden
        assert of.cleaned(None, CLEAN) is None and of.redacted(None, str.upper) is None


def test_only_words_are_cleaned(name: str) -> None:
    values = [value for _, value in SAMPLES[name].good]
    cleaned = [kind(name).cleaned(value, CLEAN) for value in values]
    if name == "text":
        assert cleaned == [None if value is None else clean(value, CLEAN) for value in values]
    else:
        assert cleaned == values


def test_personal_data_is_redacted_where_words_stand(name: str) -> None:
    said = kind(name).redacted("write to ann@mail.example", lambda text: redact(text, ["email"]))
    assert said == "write to <email>"


# --- looking ---------------------------------------------------------------------------------------------------------


def test_a_profile_is_json_and_tells_what_is_missing(name: str) -> None:
    of, column = kind(name), drawn(name)
    missing = np.mean([value is None or value != value for value in column.tolist()])
    profile = of.profile(column)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    assert profile.get("missing", 0) == pytest.approx(missing, abs=1e-3)
    for few in (column[:0], of.column([None, None, None])):
        json.dumps(of.profile(few), allow_nan=False)
    assert of.profile(of.column([None, None])).get("missing") == 1


def test_what_was_seen_is_known(name: str) -> None:
    of, column = kind(name), drawn(name)
    known = of.known(column)
    assert json.loads(json.dumps(known, allow_nan=False)) == known, "it travels as JSON"
    values = [None if value != value else value for value in column.tolist()]
    assert not [value for value in values if of.unseen(value, known)]
    for few in (column[:0], of.column([None, None])):
        nothing = of.known(few)
        json.dumps(nothing, allow_nan=False)
        of.unseen(values[-1], nothing)
        of.schema(nothing)


UNSEEN = [
    ("category", "aa", "never seen in training: aa"), ("number", 1e9, "1,000,000,000 is far outside of"),
    ("number", -1e9, "far outside"), ("date", moment(2199, 1, 1), "2199-01-01 is far outside of 2025-01-0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), UNSEEN)
def test_what_was_not_seen_is_told(name: str, value: Any, words: str) -> None:
    of = kind(name)
    known = json.loads(json.dumps(of.known(drawn(name))))
    assert words in (of.unseen(value, known) or "")


def test_the_nearest_known_value_is_offered() -> None:
    of = kind("category")
    known = of.known(of.column(["north", "south", "north"]))
    assert of.unseen("nroth", known) == "never seen in training: nroth (did you mean north?)"


def test_ids_are_not_remembered() -> None:
    assert kind("id").known(drawn("id")) == {}


# --- drift -----------------------------------------------------------------------------------------------------------


def fires(name: str, old: Column, new: Column, seed: int = 0) -> list[str]:
    """Tests of a field that would be called drift, at the limits of feedback."""
    of = kind(name)
    found = of.drift("field", old, new, of.known(old), np.random.default_rng(2000 + seed))
    json.dumps([[one.test, one.about, one.told] for one in found])
    p_values = holm([one.shift.p for one in found])
    return [
        one.test
        for one, p in zip(found, p_values, strict=True)
        if p < P_LIMIT and one.shift.effect >= EFFECT_LIMIT
    ]  # fmt: skip


def halves(column: Column, seed: int) -> tuple[Column, Column]:
    order = np.random.default_rng(1000 + seed).permutation(len(column))
    return column[order[: len(order) // 2]], column[order[len(order) // 2 :]]


def test_two_halves_of_a_column_are_no_drift(name: str) -> None:
    rows = 300 if name == "text" else ROWS
    false = sum(bool(fires(name, *halves(drawn(name, seed, rows), seed), seed)) for seed in range(SEEDS))
    assert false <= 1
    told = [kind(name).schema_drift("field", *halves(drawn(name, seed), seed)) for seed in range(SEEDS)]
    assert not any(told), told


def test_a_column_that_moved_is_drift(name: str) -> None:
    sample, of = SAMPLES[name], kind(name)
    if sample.moved is None:
        assert not fires(name, drawn(name, 0), drawn(name, 1))
        return
    rows = 150
    missed = [
        seed
        for seed in range(SEEDS // 4)
        if not fires(
            name, drawn(name, seed, rows), of.column(sample.moved(np.random.default_rng(seed + 99), rows)), seed
        )
    ]
    assert not missed


def test_too_few_rows_are_compared_with_nothing(name: str) -> None:
    of, column = kind(name), drawn(name)
    for old, new in ((column[:5], column), (column, column[:5]), (column[:0], column[:0])):
        assert of.drift("field", old, new, of.known(old), np.random.default_rng(0)) == []
        assert of.schema_drift("field", old, new) == []
    nothing = of.column([None] * 100)
    assert not fires(name, nothing, nothing)


@pytest.mark.parametrize("name", ["category", "date", "flag", "number"])
def test_more_missing_values_are_drift(name: str) -> None:
    """But for words: those that are there say nothing of rows that lack them."""
    of, old = kind(name), drawn(name)
    new = of.column(
        [None if place % 2 else None if value != value else value for place, value in enumerate(old.tolist())]
    )
    assert fires(name, old, new)


def test_a_column_that_went_missing_is_told(name: str) -> None:
    of, old = kind(name), drawn(name)
    told = of.schema_drift("income", old, of.column([None] * ROWS))
    assert (told != []) == (name != "id")
    if told:
        assert told[0].startswith("income went missing (") and told[0].endswith("-> 100% empty)")
    assert of.schema_drift("income", of.column([None] * ROWS), of.column([None] * ROWS)) == []


def test_new_categories_are_told() -> None:
    of, old = kind("category"), drawn("category")
    new = of.column([f"{value}s" if place % 3 == 0 else value for place, value in enumerate(old.tolist())])
    [told] = of.schema_drift("region", old, new)
    assert told.startswith("region has values that were never seen: as, bs") and "(33% of the rows)" in told


def test_codes_that_are_always_new_are_no_news() -> None:
    """Of a column with thousands of rare values any new sample has some that the old one lacks."""
    of, rng = kind("category"), np.random.default_rng(0)
    codes = np.array([f"c{number}" for number in rng.zipf(1.3, 4000)], object)
    assert of.schema_drift("code", codes[:2000], codes[2000:]) == []


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("up", [True, False])
def test_another_unit_is_told(factor: float, up: bool) -> None:
    of = kind("number")
    old, new = drawn("number", 1), drawn("number", 2) * (factor if up else 1 / factor)
    [told] = of.schema_drift("income", old, new)
    assert f"income looks {factor:,.0f} times {'larger' if up else 'smaller'} (median " in told


def test_growth_is_no_other_unit() -> None:
    of = kind("number")
    old = drawn("number", 1)
    for factor in (0.7, 1.5, 2.0, 5.0, 30.0):
        assert of.schema_drift("income", old, drawn("number", 2) * factor) == []
    wide = of.column([value**2 for value in drawn("number", 2).tolist()])
    assert of.schema_drift("income", old, wide) == [], "the quartiles grew unalike"
    assert of.schema_drift("income", old, np.zeros(ROWS)) == [], "zeros have no unit"


# --- requests --------------------------------------------------------------------------------------------------------


def test_the_schema_is_json_schema(name: str) -> None:
    of, column = kind(name), drawn(name)
    schema = of.schema(json.loads(json.dumps(of.known(column))))
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    expected = SAMPLES[name].schema
    assert {key: schema[key] for key in expected} == expected
    assert set(schema) <= {"type", "format", "x-control", "x-values", "examples", "description"}
    types: dict[str, Any] = {"string": str, "number": (int, float), "boolean": bool, "null": type(None)}
    for example in schema["examples"]:
        assert any(isinstance(example, types[each]) for each in schema["type"])
        of.read(example)


def test_a_category_of_many_values_is_no_select() -> None:
    of = kind("category")
    schema = of.schema(of.known(of.column([f"v{number}" for number in range(900)])))
    assert schema["x-control"] == "box" and len(schema["x-values"]) == 200
