"""Report: what a stage has to say. report.json and report.md are its two faces."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from typing import Any

MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~]")
"""Characters that Markdown may take for markup."""
Number = float | int | str | bool | None


@dataclass
class Table:
    """A table for people: a title, column names, rows of cells."""

    title: str
    columns: list[str]
    rows: list[list[Number]]


@dataclass
class Curve:
    """A line for the run's page: one named series of (x, y) points per line."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass
class Grid:
    """A picture of counts for the run's page: `cells` [row, column], both called by `names`; what rows and columns are
    is told by `rows` and `columns`. What lies on the diagonal is as it should be."""

    title: str
    rows: str
    columns: str
    names: list[str]
    cells: list[list[int]]


@dataclass
class Passage:
    """A text for people, in pieces of which some are marked: the tokens a model is trained on, or an answer beside its
    question. The terminal colours what is marked, Markdown makes it bold."""

    title: str
    pieces: list[tuple[str, bool]]


@dataclass
class Report:
    """What a stage found out.

    `headline` is one sentence; `numbers` are the figures that gates and scripts read (names carry their
    unit: `took_s`, `latency_p95_ms`, `size_mb`); `warnings` deserve a person's eye; `next` are commands to type.
    """

    headline: str
    numbers: dict[str, Number] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Report:
        """The report that `plain` was made from."""
        known = {
            **plain,
            "tables": [Table(**t) for t in plain["tables"]],
            "curves": [Curve(**c) for c in plain["curves"]],
            "passages": [
                Passage(p["title"], [(text, marked) for text, marked in p["pieces"]]) for p in plain.get("passages", [])
            ],
            "grids": [Grid(**g) for g in plain.get("grids", [])],
        }
        return cls(**known)

    def markdown(self, title: str) -> str:
        """The report as a page of Markdown."""
        parts = [f"# {title}", self.headline]
        if self.warnings:
            parts.append("\n".join(f"> warning: {warning}" for warning in self.warnings))
        if self.numbers:
            parts.append(markdown_table(["figure", "value"], [[k, v] for k, v in self.numbers.items()]))
        parts.extend(f"## {t.title}\n\n{markdown_table(t.columns, t.rows)}" for t in self.tables)
        parts.extend(f"## {p.title}\n\n{markdown_passage(p)}" for p in self.passages)
        if self.next:
            parts.append("## Next\n\n" + "\n".join(f"    {command}" for command in self.next))
        return "\n\n".join(parts) + "\n"


def cell(value: Number) -> str:
    """A number as people like to read it: four significant decimals, no trailing noise."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def markdown_passage(passage: Passage) -> str:
    """A passage as a quotation in Markdown: what is marked is bold, and stars in the text stay stars."""
    lines = [""]
    for marked, pieces in groupby(passage.pieces, key=lambda piece: piece[1]):
        for index, line in enumerate("".join(text for text, _ in pieces).split("\n")):
            if index:
                lines.append("")
            lines[-1] += _bold(_literal(line)) if marked else _literal(line)
    # Without a backslash at its end a line would flow into the next one.
    ends = ["\\" if line.strip() and after.strip() else "" for line, after in pairwise([*lines, ""])]
    return "\n".join(f"> {line}{end}".rstrip() for line, end in zip(lines, ends, strict=True))


def _literal(text: str) -> str:
    return MARKUP.sub(r"\\\g<0>", text)


def _bold(text: str) -> str:
    """Stars must touch letters: white space at the ends stays outside of them."""
    inner = text.strip()
    return text.replace(inner, f"**{inner}**", 1) if inner else text


def markdown_table(columns: list[str], rows: list[list[Number]]) -> str:
    """A table in Markdown; pipes in cells are escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines.extend(
        "| " + " | ".join(cell(value).replace("|", "\\|").replace("\n", " ") for value in row) + " |" for row in rows
    )
    return "\n".join(lines)
