"""Readers: every format and flaw gives rows with file:line, or a counted reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llmops.core.errors import DataError, MachineError
from llmops.records.config import SourceSection
from llmops.records.readers import read
from llmops.records.textfiles import LONGEST_LINE
from tests.cases_data import csv_text, put, rows


def test_rows_know_their_line_also_after_cells_of_many_lines(tmp_path: Path) -> None:
    put('text,label\r\n"two\r\nlines",a\r\nthird,b\r\n')(tmp_path)
    found = list(read("data.csv", tmp_path))
    assert found == [
        ({"text": "two\r\nlines", "label": "a"}, "data.csv:2"),
        ({"text": "third", "label": "b"}, "data.csv:4"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_byte_order_mark_are_found(tmp_path: Path, delimiter: str, encoding: str) -> None:
    table = [("id", "text", "label"), ("1", '"where, oh; where\tis|it"', "track"), ("2", "money back", "refund")]
    lines = "\n".join(delimiter.join(cells) for cells in table)
    put(lines.encode(encoding))(tmp_path)
    reading = read("data.csv", tmp_path)
    assert reading.columns == ["id", "text", "label"]
    assert [row["text"] for row, _ in reading] == ["where, oh; where\tis|it", "money back"]
    assert reading.bad == []


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Die Lieferung ist beschädigt, ich möchte mein Geld für Größe 42 zurück"),
        ("gb18030", "距离川沙公路较近但是公交指示不对如果是蔡陆线的话会非常麻烦"),
        ("cp1251", "Где мой заказ? Я хочу вернуть деньги за товар"),
        ("shift_jis", "注文した商品がまだ届きません。返金してください。"),
    ],
)
def test_other_encodings_are_found_out_and_said(tmp_path: Path, encoding: str, text: str) -> None:
    put(f'text,label\n"{text}",a\n"{text}",b\n'.encode(encoding))(tmp_path)
    reading = read("data.csv", tmp_path)
    assert next(iter(reading))[0]["text"] == text
    assert reading.encoding_found


def test_a_stray_byte_costs_its_row_not_the_file(tmp_path: Path) -> None:
    good = "\n".join(f"größe {number},a" for number in range(99)).encode()
    put(b"text,label\n" + good + b"\ngr\xf6\xdfe,a\n")(tmp_path)
    reading = read("data.csv", tmp_path)
    assert sum(1 for _ in reading) == 99
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [("data.csv:101", "undecodable")]


def test_an_unclosed_quote_costs_one_row(tmp_path: Path) -> None:
    put(csv_text([("one", "a"), ('"two', "a"), ("three", "b"), ("four", "b")]))(tmp_path)
    reading = read("data.csv", tmp_path)
    assert [row["text"] for row, _ in reading] == ["one", "three", "four"]
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [("data.csv:3", "unreadable_line")]


def test_many_unclosed_quotes_stop_instead_of_taking_for_ever(tmp_path: Path) -> None:
    put("text,label\n" + '"open,a\n' * 5000)(tmp_path)
    with pytest.raises(DataError, match="never closed"):
        list(read("data.csv", tmp_path))


def test_sloppy_quotes_within_a_cell_are_taken_as_they_are(tmp_path: Path) -> None:
    put('text,label\n"yes" he said,a\nplain "quote",b\n')(tmp_path)
    assert [row["text"] for row, _ in read("data.csv", tmp_path)] == ["yes he said", 'plain "quote"']


def test_a_line_too_long_is_skipped_and_counted(tmp_path: Path) -> None:
    put("text,label\nshort,a\n" + "x" * (2 * LONGEST_LINE) + ",a\nlast,b\n")(tmp_path)
    reading = read("data.csv", tmp_path)
    assert [origin for _, origin in reading] == ["data.csv:2", "data.csv:4"]
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [("data.csv:3", "line_too_long")]


def test_excel_says_its_delimiter_in_the_first_line(tmp_path: Path) -> None:
    put("sep=;\ntext;label\na, b;c\n")(tmp_path)
    assert list(read("data.csv", tmp_path)) == [({"text": "a, b", "label": "c"}, "data.csv:3")]


def test_a_trailing_delimiter_says_nothing(tmp_path: Path) -> None:
    put("text,label\nwords,a,\n")(tmp_path)
    reading = read("data.csv", tmp_path)
    assert [row["label"] for row, _ in reading] == ["a"]
    assert reading.bad == []


def test_jsonl_keeps_types_and_counts_broken_lines(tmp_path: Path) -> None:
    put('{"text": "one", "label": 1}\n\n{"text": \n[1]\n{"text": "two", "label": true}\n', "data.jsonl")(tmp_path)
    reading = read("data.jsonl", tmp_path)
    assert [(row["label"], origin) for row, origin in reading] == [(1, "data.jsonl:1"), (True, "data.jsonl:5")]
    assert [bad.origin for bad in reading.bad] == ["data.jsonl:3", "data.jsonl:4"]


def test_a_json_array_knows_where_its_items_begin(tmp_path: Path) -> None:
    items = [{"text": "one", "more": [{"deep": 1}]}, 7, {"text": "zwei, schön"}]
    put("\ufeff " + json.dumps(items, indent=2, ensure_ascii=False), "data.json")(tmp_path)
    reading = read("data.json", tmp_path)
    assert reading.columns == ["text", "more"]
    assert list(reading) == [(items[0], "data.json:2"), (items[2], "data.json:11")]
    assert [(bad.origin, bad.reason, bad.text) for bad in reading.bad] == [("data.json:10", "unreadable_line", "7")]


def test_items_on_one_line_are_told_apart_by_their_number(tmp_path: Path) -> None:
    put(json.dumps([{"text": str(n)} for n in range(3)]), "data.json")(tmp_path)
    assert [origin for _, origin in read("data.json", tmp_path)] == ["data.json:1", "data.json:1[1]", "data.json:1[2]"]


def test_a_json_file_may_hold_one_object_a_line(tmp_path: Path) -> None:
    put('{"text": "one"}\n{"text": \n{"text": "two"}\n', "data.json")(tmp_path)
    reading = read("data.json", tmp_path)
    assert [(row["text"], origin) for row, origin in reading] == [("one", "data.json:1"), ("two", "data.json:3")]
    assert [bad.origin for bad in reading.bad] == ["data.json:2"]


def test_stray_bytes_and_other_encodings_in_a_json_array(tmp_path: Path) -> None:
    words = [f"größe {number}" for number in range(99)]
    lines = [json.dumps({"text": text}, ensure_ascii=False).encode() for text in words] + [b'{"text": "gr\xf6\xdfe"}']
    put(b"[" + b",\n".join(lines) + b"]", "data.json")(tmp_path)
    reading = read("data.json", tmp_path)
    assert [row["text"] for row, _ in reading] == words
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [("data.json:100", "undecodable")]
    put(json.dumps([{"text": text} for text in words], ensure_ascii=False).encode("cp1252"), "old.json")(tmp_path)
    old = read("old.json", tmp_path)
    assert [row["text"] for row, _ in old] == words and old.encoding_found


def test_a_broken_array_gives_what_stands_before_the_break(tmp_path: Path) -> None:
    put('[{"text": "one"},\n{"text": "two"},\n{"text": "three\n', "data.json")(tmp_path)
    found = iter(read("data.json", tmp_path))
    assert [next(found)[0]["text"] for _ in range(2)] == ["one", "two"]
    with pytest.raises(DataError, match="not JSON") as told:
        next(found)
    assert told.value.mistakes[0].where.endswith("data.json:3")


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    put("[ ]", "data.json")(tmp_path)
    assert list(read("data.json", tmp_path)) == []


TALE = "\ufeff\r\nOnce upon\r\na time.\n\n \n  There was more.\nAnd more.\n\n\nThe end."


@pytest.mark.parametrize(
    ("unit", "texts", "numbers"),
    [
        ("paragraphs", ["\nOnce upon\na time.\n\n \n", "  There was more.\nAnd more.\n\n\n", "The end."], [2, 6, 10]),
        (
            "lines",
            ["\nOnce upon\n", "a time.\n\n \n", "  There was more.\n", "And more.\n\n\n", "The end."],
            [2, 3, 6, 7, 10],
        ),
        ("file", [TALE.lstrip("\ufeff").replace("\r\n", "\n")], [2]),
    ],
)
def test_plain_text_falls_into_parts_that_make_the_file_again(
    tmp_path: Path, unit: str, texts: list[str], numbers: list[int]
) -> None:
    put(TALE, "tale.txt")(tmp_path)
    reading = read(SourceSection(path="tale.txt", rows=unit), tmp_path, ("story",))
    assert list(reading) == [
        ({"story": text, "document_id": "tale.txt", "part": part}, f"tale.txt:{number}")
        for part, (text, number) in enumerate(zip(texts, numbers, strict=True), 1)
    ]
    assert reading.columns == ["story", "document_id", "part"]
    assert "".join(texts) == TALE.lstrip("\ufeff").replace("\r\n", "\n")


def test_text_is_a_table_for_tasks_with_two_columns_unless_told(tmp_path: Path) -> None:
    put("text,label\nwords,a\n", "data.txt")(tmp_path)
    assert [row for row, _ in read("data.txt", tmp_path)] == [{"text": "words", "label": "a"}]
    assert [row["text"] for row, _ in read("data.txt", tmp_path, ("text",))] == ["text,label\nwords,a\n"]
    told = SourceSection(path="data.txt", format="csv")
    assert [row["text"] for row, _ in read(told, tmp_path, ("text",))] == ["words"]
    with pytest.raises(DataError, match="no column `label`"):
        read(SourceSection(path="data.txt", format="text"), tmp_path).require(["text", "label"])


def test_a_flaw_costs_its_paragraph(tmp_path: Path) -> None:
    good = "".join(f"größe {number}\n\n" for number in range(99)).encode()
    put(b"first\ngr\xf6\xdfe\n\n" + good + b"nul\0byte\n", "tale.md")(tmp_path)
    reading = read("tale.md", tmp_path, ("text",))
    assert [row["part"] for row, _ in reading] == list(range(2, 101))
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [
        ("tale.md:1", "undecodable"),
        ("tale.md:202", "nul_byte"),
    ]


def test_a_folder_of_texts_gives_the_parts_of_each_file(tmp_path: Path) -> None:
    for name, content in (("b.txt", "one\n\ntwo"), ("a/deep.md", "three"), (".hidden.txt", "no"), ("x.png", "no")):
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / name).write_text(content)
    (tmp_path / "pages/empty.txt").touch()
    (tmp_path / "pages/blank.txt").write_text("\n \n")
    (tmp_path / "pages/z.txt").write_bytes(b"PK\x03\x04" * 9)
    reading = read("pages", tmp_path, ("text",))
    assert [(row["document_id"], row["part"], row["text"]) for row, _ in reading] == [
        ("pages/a/deep.md", 1, "three"),
        ("pages/b.txt", 1, "one\n\n"),
        ("pages/b.txt", 2, "two"),
    ]
    assert [(bad.origin, bad.reason) for bad in reading.bad] == [
        ("pages/blank.txt:1", "missing_value"),
        ("pages/empty.txt:1", "unreadable_file"),
        ("pages/z.txt:1", "unreadable_file"),
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no text file"):
        read("none", tmp_path, ("text",))


def test_a_folder_holds_no_rows_with_fields(tmp_path: Path) -> None:
    (tmp_path / "chats").mkdir()
    with pytest.raises(DataError, match="fields that a folder of text does not hold"):
        read("chats", tmp_path, ())


def test_a_folder_gives_one_row_a_file(tmp_path: Path) -> None:
    for label, name, text in (("refund", "1.txt", "money back"), ("track order", "x.txt", "wo ist es, schön")):
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / name).write_text(text)
    (tmp_path / "texts" / "refund" / "empty.txt").touch()
    reading = read("texts", tmp_path, ("utterance", "intent"))
    assert list(reading) == [
        ({"utterance": "money back", "intent": "refund"}, "texts/refund/1.txt:1"),
        ({"utterance": "wo ist es, schön", "intent": "track order"}, "texts/track order/x.txt:1"),
    ]
    assert [bad.reason for bad in reading.bad] == ["missing_value"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": ["one", "two", None], "label": [0, 1, 1]})
    parquet.write_table(table, tmp_path / "data.parquet")
    assert list(read("data.parquet", tmp_path))[1:] == [
        ({"text": "two", "label": 1}, "data.parquet:2"),
        ({"text": None, "label": 1}, "data.parquet:3"),
    ]


def test_a_saved_dataset_gives_names_of_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    train = datasets.Dataset.from_dict({"text": ["one", "two"], "label": [1, 0]}, features=features)
    datasets.DatasetDict({"train": train}).save_to_disk(str(tmp_path / "saved"))
    assert [row["label"] for row, _ in read("saved", tmp_path)] == ["yes", "no"]
    with pytest.raises(DataError, match="no split `dev`"):
        read(SourceSection(path="saved", split="dev"), tmp_path)


@pytest.mark.parametrize(("source", "module"), [("data.parquet", "pyarrow"), ("hf://name", "datasets")])
def test_a_missing_library_is_named_with_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, module: str
) -> None:
    put(b"PAR1", "data.parquet")(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError) as told:
        read(source, tmp_path)
    assert told.value.exit_code == 5
    assert "pip install" in told.value.mistakes[0].do


def test_a_surrogate_half_in_json_does_not_stop_the_reader(tmp_path: Path) -> None:
    put(json.dumps({"text": "\ud83d half", "label": "a"}), "data.jsonl")(tmp_path)
    assert next(iter(read("data.jsonl", tmp_path)))[0]["text"] == "\ud83d half"


def test_reading_is_lazy_and_quick(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text(rows(2000)))
    assert sum(1 for _ in read("data.csv", tmp_path)) == 2000
