"""Report: what is written comes back the same; passages show what is marked, as Markdown and on a terminal."""

from __future__ import annotations

import json

from rich.console import Console as RichConsole

from llmops.core.console import Console
from llmops.core.report import Curve, Passage, Report, Table, markdown_passage

PASSAGE = Passage("Row 1", [("Who *are* you?\n\n", False), (" I am ", True), ("Ada.\nYes!", True), (" [end]", False)])


def test_a_report_comes_back_from_json_the_same() -> None:
    curve = Curve("Loss", "step", "loss", {"train": [(1, 2.0)]})
    report = Report("h", {"loss": 0.5}, [Table("T", ["a"], [["b"]])], [curve], ["w"], ["n"], [PASSAGE])
    again = Report.read(json.loads(json.dumps(report.plain())))
    assert again.passages == report.passages
    assert again.markdown("t") == report.markdown("t")
    older = report.plain()
    del older["passages"]
    assert Report.read(older).passages == []


def test_marked_pieces_are_bold_in_markdown_and_stars_stay_stars() -> None:
    assert markdown_passage(PASSAGE).splitlines() == [
        r"> Who \*are\* you?", ">", ">  **I am Ada.**\\", r"> **Yes!** \[end\]",
    ]  # fmt: skip
    assert "## Row 1" in Report("h", passages=[PASSAGE]).markdown("t")


def test_marked_pieces_are_green_on_a_terminal() -> None:
    console = Console()
    console._rich = RichConsole(force_terminal=True, color_system="standard", width=80, record=True, quiet=False)
    with console._rich.capture() as captured:
        console.passage(PASSAGE)
    said = captured.get()
    assert "\x1b[1;32m" in said
    assert said.index("Who *are* you?") < said.index("\x1b[1;32m") < said.index("I am")
    Console(quiet=True).passage(PASSAGE)
