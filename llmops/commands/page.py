"""report.html: a whole run on one page, with plots; no script, nothing from the network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from llmops.commands.grid import draw
from llmops.core.artifact import write_whole
from llmops.core.report import Curve, Report, cell
from llmops.core.run import RunFolder
from llmops.loop import LOOP

INK, FAINT = "#1d2733", "#c9d1da"
SHOWN = (
    "accuracy", "f1_micro", "f1_macro", "roc_auc", "average_precision", "recall", "loss", "perplexity", "bits_per_byte",
    "reward_accuracy", "chrf", "recall_at_1", "recall_at_5", "mrr", "above_baseline", "parity", "tokens_per_s",
    "latency_p95_ms", "size_mb",
)  # fmt: skip
"""Figures of deploy that stand at the top, where the task has them."""
COLOURS = ("#2563a8", "#c2571a", "#2f855a", "#7b4fa3", "#a33b4f")


def write_page(run: RunFolder) -> Path:
    """Write report.html into the run from its stages' reports; returns its path."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters["cell"] = cell
    template = environment.get_template("page.html")
    path = run.path / "report.html"
    write_whole(path, template.render(run=run, noted=run.noted(), stages=_stages(run), headline=_headline(run)))
    return path


def _headline(run: RunFolder) -> list[tuple[str, Any]]:
    """The figures that stand at the top: those of deploy."""
    report = run.report("deploy")
    return [(name, report.numbers[name]) for name in SHOWN if name in report.numbers] if report else []


def _stages(run: RunFolder) -> list[dict[str, Any]]:
    stages = []
    for row in LOOP:
        report, sealed = run.report(row.name), run.sealed(row.name)
        if report is not None and sealed is not None:
            drawn = {"plots": _plots(report), "grids": [(grid.title, Markup(draw(grid))) for grid in report.grids]}
            stages.append({"name": row.name, "does": row.does, "report": report, "sealed": sealed, **drawn})
    return stages


def _plots(report: Report) -> list[Markup]:
    """Pictures of the curves that show anything: more than one point."""
    return [Markup(plot(curve)) for curve in report.curves if sum(map(len, curve.lines.values())) > 1]


def plot(curve: Curve) -> str:
    """A curve as SVG text."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(4.3, 2.4), layout="constrained")
    axes = figure.subplots()
    for colour, (name, points) in zip(COLOURS * len(curve.lines), curve.lines.items(), strict=False):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, color=colour, linewidth=1.6, marker="o" if len(points) < 30 else "", markersize=3, label=name)
    axes.set_title(curve.title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(curve.x, fontsize=8, color=INK)
    axes.set_ylabel(curve.y, fontsize=8, color=INK)
    axes.tick_params(labelsize=7, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=FAINT, linewidth=0.4)
    if len(curve.lines) > 1:
        axes.legend(fontsize=7, frameon=False)
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    return text[text.index("<svg") :]
