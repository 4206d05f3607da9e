"""Report: what a stage has to say. report.json and report.md are its two faces."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

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

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Report:
        """The report that `plain` was made from."""
        known = {
            **plain,
            "tables": [Table(**t) for t in plain["tables"]],
            "curves": [Curve(**c) for c in plain["curves"]],
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


def markdown_table(columns: list[str], rows: list[list[Number]]) -> str:
    """A table in Markdown; pipes in cells are escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines.extend(
        "| " + " | ".join(cell(value).replace("|", "\\|").replace("\n", " ") for value in row) + " |" for row in rows
    )
    return "\n".join(lines)
