"""The run's page: every stage on it, plots as SVG, nothing from the network, user's text never becomes markup."""

from __future__ import annotations

from pathlib import Path

from llmops.commands.page import write_page
from llmops.core.console import Console
from llmops.core.report import Curve, Passage, Report, Table
from llmops.core.run import RunStore, Sealed


def test_the_page_shows_a_stage_and_escapes(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    run = store.new()
    room = store.room(run, "train", "k" * 64, Console(quiet=True))
    evil = "<script>alert(1)</script>"
    curve = Curve("Loss", "step", "loss", {"train": [(1, 2.0), (2, 1.0)], "valid": [(1, 2.5), (2, 1.5)]})
    passage = Passage(evil, [(f"asked {evil}\n", False), (f"said {evil}", True)])
    report = Report(evil, {"loss": 0.5}, [Table("T", ["a"], [[evil]])], [curve], [evil], passages=[passage])
    store.seal(run, room, Sealed("train", "k" * 64, 1, "now", 1.0), report)
    page = write_page(run).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<svg" in page
    assert "<b>said &lt;script&gt;" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
