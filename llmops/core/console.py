"""The only file that prints. stdout is for results; everything a person watches goes to stderr."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.errors import LlmopsError
from llmops.core.layout import laid_out
from llmops.core.report import Number, Passage, Table, cell

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

LINE_EVERY_S = 30.0


class Console:
    """The terminal of one command. `quiet` drops all but warnings and errors; with `json` stdout holds only JSON."""

    def __init__(self, quiet: bool = False, verbose: bool = False, json: bool = False) -> None:
        self.quiet, self.verbose, self.json = quiet, verbose, json
        self._log: Path | None = None
        self._rich: RichConsole | None = None

    @property
    def rich(self) -> RichConsole:
        """rich's console on stderr; loaded on first use, since `--help` must be instant."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        return self._rich

    def log_to(self, path: Path | None) -> None:
        """Copy every line to this file as well."""
        self._log = path

    def log(self, line: str) -> None:
        """One line for the log file only; for the terminal too with -v."""
        if self._log is not None:
            with self._log.open("a") as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        if self.verbose:
            self.rich.print(line, style="dim", markup=False)

    def say(self, line: str, style: str = "") -> None:
        """One line for the person who watches."""
        verbose, self.verbose = self.verbose, False
        self.log(line)
        self.verbose = verbose
        if not self.quiet:
            self.rich.print(line, style=style or None, markup=False)

    def warn(self, line: str) -> None:
        """A line that deserves an eye; shown even when quiet."""
        self.log(f"warning: {line}")
        self.rich.print(f"warning: {line}", style="yellow", markup=False)

    def table(self, table: Table, columns: int | None = None) -> None:
        """A table for the person who watches, at most `columns` columns of it. What is too wide for the terminal goes
        on below."""
        if self.quiet:
            return
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        told = Table(table.title, table.columns[:columns], [row[:columns] for row in table.rows])
        for number, part in enumerate(laid_out(told, self.rich.width)):
            if title := "(more columns)" if number else told.title:
                self.rich.print(Text(title, style="italic"))
            if not told.rows:
                return
            shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
            for column in part:
                justify: Any = "right" if column.numeric else "left"
                shown.add_column(column.heading, justify=justify, overflow="fold", width=column.width)
            for row in told.rows:
                shown.add_row(*(_plain(row[column.index]) for column in part))
            self.rich.print(shown, soft_wrap=False)

    def passage(self, passage: Passage) -> None:
        """A text for the person who watches; its marked pieces are green."""
        if self.quiet:
            return
        from rich.padding import Padding
        from rich.text import Text

        shown = Text.assemble(*((text, "bold green" if marked else "") for text, marked in passage.pieces))
        self.rich.print(Text(passage.title, style="italic"))
        self.rich.print(Padding(shown, (0, 0, 1, 2)), soft_wrap=False)

    def progress(self, what: str, total: float | None = None) -> Bar:
        """A bar on a terminal, a line every 30 s elsewhere."""
        return Bar(self, what, total)

    def result(self, value: Any) -> None:
        """The command's result on stdout: text as it is, anything else as JSON."""
        text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, default=str)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def error(self, error: LlmopsError) -> None:
        """An error of llmops: what, where, what to do."""
        lines: list[str] = []
        headline = error.headline()
        for index, mistake in enumerate(error.mistakes):
            said = mistake.lines()
            if not headline and index == 0:
                said[0] = f"error: {said[0]}"
            lines.extend(([""] if headline or index else []) + said)
        shown = ([f"error: {headline}"] if headline else []) + lines
        self.log("\n".join(shown)) if not self.verbose else None
        if self.json:
            plain = [{"what": m.what, "where": m.where, "do": m.do} for m in error.mistakes]
            self.result({"error": {"exit_code": error.exit_code, "mistakes": plain}})
        for line in shown:
            self.rich.print(line, style="bold red" if line.startswith("error:") else None, markup=False)


def _plain(value: Number) -> Any:
    from rich.text import Text

    return Text(cell(value))


class Bar:
    """A running task: how much is done, at what rate, how long it still takes."""

    def __init__(self, console: Console, what: str, total: float | None) -> None:
        self.console, self.what, self.total = console, what, total
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Bar:
        if not self.console.quiet and self.console.rich.is_terminal:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = [
                TextColumn("  {task.description}"),
                BarColumn(24),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(compact=True),
            ]
            self._bar = Progress(*columns, console=self.console.rich, transient=True)
            self._task = self._bar.add_task(self.what, total=self.total, note="")
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, note: str = "") -> None:
        """`done` of `total` is done; `note` stands beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            share = f" {100 * done / self.total:.0f} %" if self.total else ""
            self.console.say(f"  {self.what}{share} {note}".rstrip())
