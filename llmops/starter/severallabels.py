"""What a drafted config says of labels: where they stand, and how the cells might be read in another way."""

from __future__ import annotations

from llmops.records.joinedlabels import Joined
from llmops.records.labelcolumns import Labelled
from llmops.records.look import Look
from llmops.starter.lines import one_line, quoted

NAMED = 6
"""Columns that a comment names."""


def settings(label: Labelled) -> str:
    """The settings of `task:` that say where the labels stand."""
    if label.how == "columns":
        return f"label: [{', '.join(map(quoted, label.names))}], labels: many"
    told = f"label: {quoted(label.names[0])}"
    if label.several:
        told += ", labels: many"
    return told if label.separator is None else f"{told}, separator: {_sign(label.separator)}"


def comments(seen: Look) -> list[str]:
    """Lines that say how the labels were recognised, and what to change where that is wrong."""
    label, lines = seen.label, []
    if label.how == "columns":
        names = ", ".join(map(one_line, label.names[:NAMED])) + (" ..." if len(label.names) > NAMED else "")
        lines = [
            f"# {names}: columns of yes and no, taken for a label each; leave out those that are none.",
            f"# To predict one of them alone: label: {quoted(label.names[0])}, without labels: many",
        ]
    elif label.how == "lists":
        lines = [f"# {one_line(label.names[0])} holds lists of labels: a text has as many as stand there"]
    elif label.joined is not None:
        lines = _of_joined(label.joined, label.several)
    if seen.bare:
        share = f"# {seen.bare:,} of {seen.rows:,} rows have no label: taken for rows that none of the labels fits;"
        lines += [f"{share} if nobody", "# has looked at them, add empty: drop"]
    return lines


def _of_joined(joined: Joined, several: bool) -> list[str]:
    cells = f"`{one_line(joined.example)[:60]}`"
    sign = _sign(joined.separator)
    if several:
        made = f"{len(joined.labels):,} labels make {joined.cells:,} different cells"
        return [
            f"# cells such as {cells} are taken for several labels: {made}.",
            "# If each cell is one label, leave out labels and separator",
        ]
    return [
        f"# cells such as {cells} are taken for one label each, since their parts hardly turn up elsewhere.",
        f"# If they are several labels, add labels: many, separator: {sign}",
    ]


def _sign(separator: str) -> str:
    return f'"{separator}"'
