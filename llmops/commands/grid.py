"""Draws a Grid as SVG text: a square of counts, blue on the diagonal and orange beside it; no script, no font."""

from __future__ import annotations

from markupsafe import escape

from llmops.core.report import Grid

INK, SOFT, LINE = "#1d2733", "#5a6877", "#e1e6ec"
RIGHT, WRONG = (37, 99, 168), (194, 87, 26)
WIDE = 560
"""Pixels that the squares may take in all, unless they get smaller than the least."""
LEAST, MOST = 14, 64
READABLE = 20
"""Pixels of a square from which its count is written into it."""
LETTERS = 24
"""Longest name; the middle of a longer one is left out (its squares tell it whole)."""
END = 10
"""Letters after what is left out."""


def draw(grid: Grid) -> str:
    """The picture: a line of squares for each name, coloured by their share of the line; what a square holds is told
    where the pointer rests on it."""
    size = max(LEAST, min(MOST, WIDE // max(1, len(grid.names))))
    letter = 12 if size >= READABLE else 9
    names = [_shortened(name) for name in grid.names]
    room = round(max(map(len, names)) * letter * 0.62) + 10
    left, top = room + letter, round(room * 0.87) + 2 * letter
    square = size * len(names)
    width, height = left + square + round(room * 0.5) + 8, top + square + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="system-ui, sans-serif" font-size="{letter}" fill="{INK}" role="img"'
        f' aria-label="{escape(grid.title)}">',
        f'<text x="0" y="{letter}" fill="{SOFT}">lines: {escape(grid.rows)}, columns: {escape(grid.columns)}</text>',
        f'<rect x="{left}" y="{top}" width="{square}" height="{square}" fill="#fff" stroke="{LINE}"/>',
        *(_names(names, left, top, size, letter)),
        *(_square(grid, line, column, left, top, size) for line, column in _filled(grid)),
        "</svg>",
    ]
    return "".join(parts)


def _shortened(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - END - 1]}…{name[-END:]}"


def _names(names: list[str], left: int, top: int, size: int, letter: int) -> list[str]:
    parts = []
    for place, name in enumerate(names):
        middle = place * size + size / 2
        x, y = left + middle + letter / 3, top - 6
        parts.append(
            f'<text x="{left - 6}" y="{top + middle + letter / 3:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<text transform="translate({x:.1f} {y}) rotate(-60)">{escape(name)}</text>'
        )
    return parts


def _filled(grid: Grid) -> list[tuple[int, int]]:
    places = range(len(grid.names))
    return [(line, column) for line in places for column in places if grid.cells[line][column]]


def _square(grid: Grid, line: int, column: int, left: int, top: int, size: int) -> str:
    """One square that holds something. The root of its share is its strength, so that few mistakes are seen, too."""
    count, total = grid.cells[line][column], sum(grid.cells[line])
    strength = 0.12 + 0.88 * (count / total) ** 0.5
    red, green, blue = (round(255 - strength * (255 - part)) for part in (RIGHT if line == column else WRONG))
    x, y = left + column * size, top + line * size
    told = f"{grid.rows} {grid.names[line]}, {grid.columns} {grid.names[column]}: {count:,} of {total:,}"
    ink = "#fff" if strength > 0.6 else INK
    written = (
        f'<text x="{x + size / 2:.1f}" y="{y + size / 2 + 4:.1f}" text-anchor="middle" fill="{ink}">{count}</text>'
        if size >= READABLE
        else ""
    )
    return (
        f'<g><title>{escape(told)}</title><rect x="{x + 0.5}" y="{y + 0.5}" width="{size - 1}" height="{size - 1}"'
        f' fill="#{red:02x}{green:02x}{blue:02x}"/>{written}</g>'
    )
