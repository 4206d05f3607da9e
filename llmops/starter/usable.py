"""What of unknown data can be learnt from: whether it is a table, which rows are bad, which columns tell too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmops.core.protocols import Row
from llmops.fields import kind_of
from llmops.fields.kind import BadCell
from llmops.starter.columns import Guess, cells_of, guesses, value_of
from llmops.starter.target import Target
from llmops.tasks.tabular.screening import FEWEST, FEWEST_EVENTS, LEAK, NUMBER_LEAK, tells

TRIED = 5_000
"""Rows by which a column is judged that may give the answer away."""
COLUMNS, PROSE_COLUMNS = 2, 6
"""Columns that say something, beside the target, from which rows are a table; and where every row has prose, too."""
FLAGS = 0.75
"""Share of flags among these columns from which, beside prose, they are labels."""
PROSE = 0.8
"""Share of rows with a text, for the rows to be texts."""


def is_table(rows: Sequence[Row], semicolons: bool = False) -> bool:
    """Whether rows are a table to predict from, and not texts with labels: several columns that say something, and no
    prose in (nearly) every row; or so many columns that prose is one among them, unless nearly all of these are flags,
    one for each label that a text may have."""
    found = guesses(cells_of(rows), semicolons)
    prose = any(guess.kind == "text" and guess.cells.filled >= PROSE * guess.cells.rows for guess in found)
    kinds = Counter(guess.kind for guess in found)
    telling = sum(kinds[kind] for kind in ("number", "flag", "category", "date"))
    if prose and kinds["flag"] >= FLAGS * telling:
        return False
    return telling - 1 >= (PROSE_COLUMNS if prose else COLUMNS)


def kept(found: Sequence[Guess], target: Target, rows: Sequence[Row]) -> list[Guess]:
    """The guesses; a column that alone tells the target is kept from the model, as prepare would refuse it."""
    some = list(rows[:: max(1, len(rows) // TRIED)])
    told = [value_of(_read(target), row.get(target.name)) for row in some]
    some = [row for row, value in zip(some, told, strict=True) if value is not None]
    known = [value for value in told if value is not None]
    classes, aims = 0, np.array(known, float) if target.predict == "number" else np.empty(0)
    if target.predict == "class":
        names, aims = np.unique(np.array(known, str), return_inverse=True)
        classes = len(names)
    few = classes and (classes < 2 or np.bincount(aims).min() < FEWEST_EVENTS)
    if len(known) < FEWEST or few:
        return list(found)
    return [_but_leak(guess, some, aims, classes) if guess.name != target.name else guess for guess in found]


def _but_leak(guess: Guess, rows: Sequence[Row], aims: np.ndarray[Any, Any], classes: int) -> Guess:
    if guess.kind in ("", "id"):
        return guess
    values = kind_of(guess.section).column([value_of(guess, row.get(guess.name)) for row in rows])
    if tells(values, aims, classes) <= (LEAK if classes else NUMBER_LEAK):
        return guess
    return guess.but("gives the answer away: is it known beforehand?", learn=False)


def _read(target: Target) -> Guess:
    """The target's column as the task reads it."""
    return replace(target.guess, settings={"kind": "category"}) if target.predict == "class" else target.guess


def bad_share(found: Sequence[Guess], target: Target, rows: Sequence[Row], unreadable: int) -> float:
    """Share of rows with a cell that its kind can't read, or without a target."""
    bad = np.zeros(len(rows), bool)
    for guess in found:
        if guess.name == target.name:
            bad |= _bad(_read(target), rows, needed=True)
        elif guess.kind:
            bad |= _bad(guess, rows, needed=False)
    return float(bad.sum() + unreadable) / max(1, len(rows) + unreadable)


def _bad(guess: Guess, rows: Sequence[Row], needed: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows' cells are none of the kind (or empty, where a value is needed); each distinct cell is read once."""
    kind = kind_of(guess.section)
    known: dict[Any, bool] = {}
    bad = []
    for row in rows:
        cell = row.get(guess.name)
        key = repr(cell) if isinstance(cell, list | dict) else cell
        if key not in known:
            try:
                known[key] = needed and kind.read(cell) is None
            except BadCell:
                known[key] = True
        bad.append(known[key])
    return np.array(bad, bool)


def spread(target: Target) -> float:
    """Standard deviation of a number that is predicted."""
    if target.predict == "class":
        return 0.0
    read = [(value_of(target.guess, cell), n) for cell, n in target.counts.items()]
    values = np.repeat([value for value, _ in read if value is not None], [n for value, n in read if value is not None])
    return float(np.std(values)) if len(values) else 0.0
