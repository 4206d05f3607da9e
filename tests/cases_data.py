"""Bad data: a table of files that nobody should have to debug. Each case says how its files are made, what the
config says, which exit code follows, and which words the message must hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORDS = (
    "parcel refund invoice login coupon courier address warranty size colour gift newsletter password receipt delay "
    "box label return shop window shirt shoes lamp table chair phone cable charger screen battery"
).split()


@dataclass(frozen=True)
class Case:
    """`make` writes the files into a folder that is the project's root; `prepare` and `task` change the blocks of
    the config (whose source is data.csv unless told otherwise); `words` must stand in the message, in any case."""

    name: str
    make: Callable[[Path], None]
    words: tuple[str, ...]
    exit_code: int = 4
    prepare: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    need_says: tuple[str, ...] = ()
    """Words of the stage need, which sees the rows first, where they differ from prepare's."""


def texts(n: int, seed: int = 0) -> list[str]:
    """`n` different texts of five words, no two near twins."""
    step = len(WORDS)
    return [
        " ".join(WORDS[(seed + number // step**k * (k + 1) + number * (k * 7 + 1)) % step] for k in range(5))
        + f" {number}"
        for number in range(n)
    ]


def rows(n: int, classes: int = 2, seed: int = 0) -> list[tuple[str, str]]:
    """`n` rows (text, label) over so many classes, in turn."""
    return [(text, f"class_{number % classes}") for number, text in enumerate(texts(n, seed))]


def csv_text(cells: list[tuple[str, ...]], header: str = "text,label") -> str:
    return "\n".join([header, *(",".join(row) for row in cells)]) + "\n"


def good(folder: Path, name: str = "data.csv", n: int = 60, classes: int = 2, seed: int = 0) -> None:
    """A data file with nothing wrong."""
    (folder / name).write_text(csv_text(rows(n, classes, seed)))


def put(content: str | bytes, name: str = "data.csv") -> Callable[[Path], None]:
    """A maker of one file."""

    def make(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def _long_line(folder: Path) -> None:
    """A line of 100 MB, sparse on disk; it is all NUL bytes after its beginning."""
    with (folder / "data.csv").open("wb") as stream:
        stream.write(csv_text(rows(60)).encode() + b'"a')
        stream.truncate(100_000_000)


def _long_text_line(folder: Path) -> None:
    """A line of 100 MB of letters among too few good rows."""
    with (folder / "data.csv").open("wb") as stream:
        stream.write(csv_text(rows(9)).encode())
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
        stream.write(b",class_0\n")


def _overlap(folder: Path) -> None:
    good(folder)
    (folder / "test.csv").write_text(csv_text([(text.upper() + "!", label) for text, label in rows(10)]))


def _unknown_labels(folder: Path) -> None:
    good(folder)
    (folder / "test.csv").write_text(csv_text([(text, "class_of_its_own") for text in texts(9, seed=5)]))


def _multi_label_lists(folder: Path) -> None:
    lines = [json.dumps({"text": text, "label": [label, "other"]}) for text, label in rows(20)]
    (folder / "data.jsonl").write_text("\n".join(lines))


def _broken_jsonl(folder: Path) -> None:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows(20)]
    lines[3] = lines[3][:-5]
    lines[7] = "not json at all"
    (folder / "data.jsonl").write_text("\n".join(lines))


def _folder_of_images(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "photo.png").write_bytes(b"\x89PNG")


def _folder_for_file(folder: Path) -> None:
    (folder / "data.csv").mkdir()


def _columns(*names: str) -> Callable[[Path], None]:
    return put(csv_text([(*row, "x") for row in rows(40)], header=",".join(names)))


def split(**settings: Any) -> dict[str, Any]:
    """The change of `prepare:` that sets the step `split`."""
    return {"steps": [{"clean": {}}, {"dedup": {}}, {"split": settings}]}


def source(**settings: Any) -> dict[str, Any]:
    """The change of `prepare:` that sets its one source."""
    return {"sources": [settings]}


LATIN = csv_text([*rows(40), ("Größe zu klein, Rückgabe".replace(",", " "), "class_0")]).encode("latin-1")
RAGGED = csv_text([*rows(20), *[(text, "class_0", "one", "too many") for text in texts(5, seed=9)]])
UNCLOSED = csv_text(rows(20)) + "".join(f'"never closed {number},class_0\n' for number in range(5))
NULS = csv_text(rows(20)) + "".join(f"nul\0byte {number},class_0\n" for number in range(3))
EMPTY_CELLS = csv_text([*rows(20), *[("", "class_0")] * 3, *[("words without a label", "")] * 3])
ARRAY = json.dumps([{"text": text, "label": label} for text, label in rows(20)])
BROKEN_ARRAY = '[{"text": "one", "label": "a"},\n{"text": "two", "label": "b"},\n{"text": "three",\n"label" "b"}]'
TIMES = csv_text([(*row, "last Tuesday") for row in rows(40)], header="text,label,sent_at")

CASES = [
    Case("empty file", put(""), ("data.csv", "empty")),
    Case("header only", put("text,label\n"), ("not one row", "data.csv")),
    Case("blank lines only", put("\n\n\n"), ("no header",)),
    Case("missing file", lambda folder: None, ("no file", "data.csv")),
    Case("misspelt file", lambda folder: good(folder, "date.csv"), ("no file data.csv", "did you mean `date.csv`")),
    Case("folder where a file should be", _folder_for_file, ("data.csv", "folder")),
    Case("folder without text files", _folder_of_images, ("label folders", "photo.png"), prepare={"sources": ["data"]}),
    Case("binary file", put(bytes(range(256)) * 200), ("not a text file",)),
    Case("spreadsheet called CSV", put(b"PK\x03\x04" + b"sheet" * 100), ("not a text file", "export")),
    Case("told encoding is wrong", put(LATIN), ("utf-8", "line 42"), prepare=source(path="data.csv", encoding="utf-8")),
    Case("missing column", _columns("message", "label", "extra"), ("no column `text`", "`message`")),
    Case("misspelt column", _columns("texts", "label", "extra"), ("did you mean `texts`",)),
    Case("duplicate header", _columns("text", "label", "label"), ("`label` stands more than once",)),
    Case("one class only", put(csv_text(rows(40, classes=1))), ("only the class `class_0`", "two classes")),
    Case("NUL bytes in many rows", put(NULS), ("bad", "nul_byte 3")),
    Case("100 MB of NUL bytes in a line", _long_line, ("NUL",)),
    Case("100 MB line", _long_text_line, ("line_too_long 1", "max_bad_rows")),
    Case("ragged rows", put(RAGGED), ("ragged_row 5", "4 cells where the header has 2")),
    Case("quotes never closed", put(UNCLOSED), ("unreadable_line", "quote is never closed")),
    Case("empty cells", put(EMPTY_CELLS), ("6 of 26 rows are bad", "max_bad_rows")),
    Case("broken JSONL", _broken_jsonl, ("unreadable_line 2", "data.jsonl:4"), prepare={"sources": ["data.jsonl"]}),
    Case("JSON array called JSONL", put(ARRAY, "data.jsonl"), ("JSON array", "format: json"),
         prepare={"sources": ["data.jsonl"]}),
    Case("JSON array cut off", put(ARRAY[:-1], "data.json"), ("JSON array has no end", "data.json:1"),
         prepare={"sources": ["data.json"]}),
    Case("JSON array with a broken item", put(BROKEN_ARRAY, "data.json"),
         ("data.json:3", "item that begins here is not JSON", "(line 4)"), prepare={"sources": ["data.json"]}),
    Case("order without rows to train on", put(csv_text(rows(1))), ("only the class",), prepare=split(by="order")),
    Case("not Parquet", put("text,label\n", "data.parquet"), ("not a Parquet",), prepare={"sources": ["data.parquet"]}),
    Case("unknown ending", put("a,b\n", "data.xyz"), (".xyz", "format:"), prepare={"sources": ["data.xyz"]}),
    Case("test file overlaps", _overlap, ("10 of 60", "also stand in test.csv"), prepare=split(test_file="test.csv")),
    Case("test file with unknown labels", _unknown_labels, ("class_of_its_own", "outside"),
         prepare=split(test_file="test.csv")),
    Case("test file missing", good, ("no file", "test.csv"), prepare=split(test_file="test.csv")),
    Case("all rows duplicates", put(csv_text([("the same text", "class_0")] * 40)), ("only the class", "duplicate 39"),
         need_says=("only the class",)),
    Case("all rows conflict", put(csv_text([("the same", "a"), ("the same", "b")] * 9)),
         ("no rows", "conflicting_label 18"), need_says=("only the class",)),
    Case("group column missing", good, ("no column `customer`",), prepare=split(by="group", group="customer")),
    Case("time column missing", good, ("no column `when`",), prepare=split(by="time", time="when")),
    Case("time unparsable", put(TIMES), ("last Tuesday", "ISO"), prepare=split(by="time", time="sent_at")),
    Case("labels as lists", _multi_label_lists, ("list of labels", "labels: many"),
         prepare={"sources": ["data.jsonl"]}),
    Case("synonyms missing", good, ("no file", "words.csv"),
         prepare={"steps": [{"split": {}}, {"augment": {"synonyms": "words.csv"}}]}),
    Case("told delimiter is wrong", good, ("no column `text`", "text,label"),
         prepare=source(path="data.csv", delimiter=";")),
    Case("unknown encoding", good, ("utf-99",), exit_code=3, prepare=source(path="data.csv", encoding="utf-99")),
    Case("steps in the wrong order", good, ("order",), exit_code=3, prepare={"steps": [{"split": {}}, {"clean": {}}]}),
    Case("no split", good, ("split",), exit_code=3, prepare={"steps": [{"clean": {}}]}),
    Case("group without column", good, ("group",), exit_code=3, prepare=split(by="group")),
    Case("nothing left to train", good, ("valid",), exit_code=3, prepare=split(valid=0.5, test=0.5)),
    Case("test file is a source", good, ("data.csv", "source"), exit_code=3, prepare=split(test_file="data.csv")),
]  # fmt: skip
