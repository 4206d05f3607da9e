"""What a person reads in a terminal: tables whose words stay whole at any width, commands and blocks told in a line."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from rich.console import Console as RichConsole

from llmops.cli import app
from llmops.commands.explain import explain_key
from llmops.core.console import Console
from llmops.core.layout import laid_out, pieces, wrapped
from llmops.core.report import Table
from llmops.loop import LOOP

WIDE = Table(
    "Candidates",
    ["candidate", "accuracy", "f1_macro", "f1_weighted", "balanced_accuracy", "size_mb", "latency_p95_ms", "kept"],
    [["float32", 0.9361, 0.9301, 0.9355, 0.9301, 90.12, 7.923, "yes"],
     ["int8-weights", 0.9361, None, 0.9355, 0.9301, 90.12, 123456.0, "no: too large for this machine"]],
)  # fmt: skip
RUNS = Table(
    "", ["run", "made", "stages", "f1_weighted", "version"],
    [["20261122-133000-7f3a", "2026-11-22 13:30", " ".join(row.name for row in LOOP), 0.91234, "3 champion"]],
)  # fmt: skip


def shown(table: Table, width: int) -> list[str]:
    console = Console()
    console._rich = RichConsole(width=width, highlight=False, soft_wrap=True)
    with console._rich.capture() as captured:
        console.table(table)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("table", [WIDE, RUNS], ids=["candidates", "runs"])
def test_no_word_of_a_heading_and_no_number_breaks(table: Table, width: int) -> None:
    lines = shown(table, width)
    assert max(map(len, lines)) <= width
    whole = {piece.strip() for heading in table.columns for piece in pieces(heading)}
    headings = [lines[place] for place in range(len(lines)) if heads(lines, place)]
    parts = {re.sub(r"\s", "", part) for line in headings for word in line.split() for part in pieces(word)}
    assert parts == whole
    text = "\n".join(lines)
    for number in ("0.9361", "0.9355", "123,456") if table is WIDE else ("0.9123", "20261122-133000-7f3a"):
        assert number in text


def heads(lines: list[str], place: int) -> bool:
    """Whether a line is one of a heading: a rule follows it before the next empty line."""
    for line in lines[place:]:
        if "──" in line:
            return "──" not in lines[place]
        if not line.strip():
            return False
    return False


def test_columns_that_do_not_fit_go_on_below_with_the_first_one() -> None:
    parts = laid_out(WIDE, 60)
    assert len(parts) > 1
    assert all(part[0].index == 0 for part in parts)
    assert sorted({column.index for part in parts for column in part}) == list(range(8))
    assert "\n".join(shown(WIDE, 60)).count("(more columns)") == len(parts) - 1
    assert len(laid_out(WIDE, 200)) == 1


def test_two_runs_and_what_changed_stand_side_by_side_at_80() -> None:
    rows = [["predicted_peak_memory_mb", 517.0, 516.1, "-0.905"], ["precision", "bfloat16", "float32", ""]]
    compared = Table("", ["", "20261128-095756-11ce", "20261128-095853-0d7a", "change"], rows)
    assert len(laid_out(compared, 80)) == 1


def test_one_column_wider_than_the_terminal_is_shown_all_the_same() -> None:
    lines = shown(Table("", ["a_heading_of_many_words"], [["x" * 90]]), 40)
    assert "".join(lines).count("x") == 90


def test_a_table_without_rows_is_its_title() -> None:
    assert shown(Table("Settings that differ: none", ["", "a", "b"], []), 80) == ["Settings that differ: none"]


@pytest.mark.parametrize(("heading", "width", "lines"), [
    ("f1_weighted", 11, "f1_weighted"), ("f1_weighted", 10, "f1_\nweighted"), ("what it found", 8, "what it\nfound"),
    ("latency_p95_ms", 8, "latency_\np95_ms"), ("模型的标签 rows", 10, "模型的标签\nrows"), ("", 3, ""),
    ("20261122-133000-7f3a", 12, "20261122-\n133000-7f3a"),
])  # fmt: skip
def test_headings_wrap_after_blanks_underscores_and_hyphens(heading: str, width: int, lines: str) -> None:
    assert wrapped(heading, width) == lines


def test_each_command_is_said_whole_on_one_line_of_80() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "llmops.cli", "--help"], capture_output=True, text=True, check=True,
        env={"COLUMNS": "80", "PATH": ""},
    ).stdout  # fmt: skip
    commands = told.partition("Commands:\n")[2].splitlines()
    names = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
    assert [line.split()[0] for line in commands] == names
    for line in commands:
        assert "..." not in line
        assert line.endswith(".")
        assert 2 <= len(line.split()[1:]) <= 7, line
        assert len(line) <= 80


def test_every_block_has_a_word_in_explain() -> None:
    blocks = dict(re.findall(r"^(\w+): a block\n((?:    .*\n)+)", explain_key("") + "\n", re.M))
    assert set(blocks) == {"task", *(row.name for row in LOOP)}
    assert "How the champion is served." in blocks["deploy"]
    assert blocks["task"].count("\n") == 4, "each task says its own"
    assert "tabular: for tables" in blocks["task"]


@pytest.mark.parametrize("key", ["", "need", "prepare", "prepare.steps", "compress", "deploy", "feedback", "tune"])
def test_no_setting_and_no_block_goes_without_a_word(key: str) -> None:
    said = explain_key(key, "text-classification")
    for setting in re.split(r"\n\n(?=\w+: )", said)[1:]:
        assert len(setting.splitlines()) > 1 and setting.splitlines()[1].strip(), setting
