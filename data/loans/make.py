"""Makes the loans of this folder: applications from a stated random process, and a later quarter of another world.

    python data/loans/make.py [FOLDER]

Seeded, numpy alone. Writes loans.csv, later.csv and outcomes.csv and prints what the best possible model reaches, for
the process knows each row's true probability: it depends on nothing but what stands in the row. README.md tells it.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SEED = 11
ROWS, LATER_ROWS = 9_700, 1_800
FIRST, CUT, LATER = (np.datetime64(day) for day in ("2023-01-02", "2026-01-01", "2026-01-01"))
LATER_DAYS = 90
STRENGTH = 0.8
"""Of all that tells loans apart: what is left to chance."""
KNOWN_AFTER = 180
"""Days after which a loan's outcome is known."""

REGIONS = {"north": 0.20, "east": 0.16, "south": 0.24, "west": 0.22, "islands": 0.05, "capital": 0.13}
REGION_RISK = {"north": 0.15, "east": 0.35, "south": -0.2, "west": -0.1, "islands": 0.0, "capital": 0.1}
PURPOSES = {
    "car": 0.27, "furniture": 0.17, "renovation": 0.15, "education": 0.08, "travel": 0.07, "business": 0.09,
    "medical": 0.04, "debts": 0.13,
}  # fmt: skip
PURPOSE_RISK = {
    "car": -0.35, "furniture": 0.0, "renovation": -0.45, "education": -0.1, "travel": 0.35, "business": 0.5,
    "medical": 0.1, "debts": 0.85,
}  # fmt: skip
EMPLOYMENTS = {"employed": 0.60, "self-employed": 0.15, "retired": 0.12, "student": 0.07, "unemployed": 0.06}
EMPLOYMENT_RISK = {"employed": 0.0, "self-employed": -0.1, "retired": -0.35, "student": 0.35, "unemployed": 1.1}
PHRASES: dict[str, tuple[float, float]] = {
    "salary arrives on this account every month": (0.11, -0.7),
    "guarantor signed": (0.05, -0.9),
    "knows the branch well": (0.06, 0.0),
    "wants the money this week": (0.07, 0.3),
    "applied in the app": (0.12, 0.0),
    "two reminders last year": (0.06, 0.9),
    "rent was paid late": (0.05, 1.2),
    "asked for a later first instalment": (0.04, 0.5),
}
"""What an agent may note: how often, and what it adds to the log-odds."""
COLUMNS = (
    "loan_id", "granted", "customer_since", "sex", "age", "region", "purpose", "employment", "years_employed", "income",
    "savings", "owns_home", "amount", "months", "note",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """What may change with time. `later` is the quarter in which it has."""

    rate: float = -2.1
    amounts: float = 1.0
    debts: float = 1.0
    """How many times as many borrow to pay other debts."""
    younger: float = 0.0
    north: float = 0.0
    """Added to the log-odds in the north, where a large employer closed."""
    app: float = 0.0
    """... for those who applied in the app, whose checks were loosened."""
    savings: float = 1.0
    """How much savings protect."""


TODAY = World()
TOMORROW = replace(TODAY, amounts=1.3, debts=2.2, younger=4.0, north=2.2, app=1.2, savings=0.2)


def choose(rng: np.random.Generator, shares: dict[str, float], rows: int) -> Array:
    """So many values, by their shares."""
    weights = np.array(list(shares.values()))
    return rng.choice(np.array(list(shares), object), rows, p=weights / weights.sum())


def draw(world: World, start: np.datetime64, days: int, rows: int, rng: np.random.Generator) -> dict[str, Array]:
    """Applications: columns of `rows` values each, NaN and "" where a value is missing."""
    granted = np.sort(start + rng.integers(0, days, rows).astype("timedelta64[D]"))
    employment = choose(rng, EMPLOYMENTS, rows)
    sex = rng.choice(np.array(["f", "m"], object), rows, p=[0.47, 0.53])
    age = _ages(employment, world.younger, rng)
    works = np.isin(employment, ["employed", "self-employed"])
    years = np.where(works, np.floor(np.minimum(rng.exponential(6.0, rows), age - 17)), np.nan)
    income = _incomes(employment, sex, age, rng)
    purposes = {**PURPOSES, "debts": PURPOSES["debts"] * world.debts}
    amount = np.clip(np.exp(rng.normal(8.6 + np.log(world.amounts), 0.6, rows)), 500, 60_000)
    months = rng.choice([6, 12, 18, 24, 36, 48, 60, 72], rows, p=[0.05, 0.13, 0.1, 0.2, 0.22, 0.15, 0.1, 0.05])
    hidden = rng.random(rows) < np.where(employment == "self-employed", 0.55, 0.03)
    return {
        "granted": granted,
        "customer_since": granted - _days_known(age, rng),
        "sex": sex,
        "age": age,
        "region": choose(rng, REGIONS, rows),
        "purpose": choose(rng, purposes, rows),
        "employment": employment,
        "years_employed": years,
        "income": np.where(hidden, np.nan, np.round(income, -1)),
        "savings": np.where(rng.random(rows) < 0.35, 0.0, np.round(np.exp(rng.normal(7.2, 1.3, rows)), -1)),
        "owns_home": rng.random(rows) < np.clip((age - 20) / 70, 0.02, 0.7),
        "amount": np.round(amount, -2),
        "months": months.astype(float),
        "note": _notes(rng, rows),
    }  # fmt: skip


def _days_known(age: Array, rng: np.random.Generator) -> Array:
    """For how long the bank knows them."""
    return np.minimum(rng.exponential(5 * 365, len(age)), (age - 16) * 365).astype("timedelta64[D]")


def _ages(employment: Array, younger: float, rng: np.random.Generator) -> Array:
    """Years: the retired are old, students young."""
    middle = np.select([employment == "retired", employment == "student"], [69.0, 23.0], 41.0 - younger)
    spread = np.select([employment == "retired", employment == "student"], [5.0, 3.0], 11.0)
    return np.floor(np.clip(rng.normal(middle, spread), 18, 88))


def _incomes(employment: Array, sex: Array, age: Array, rng: np.random.Generator) -> Array:
    """What is earned in a month. Women are paid less for the same work; nothing else in this world knows the sex."""
    level = {"employed": 2_900, "self-employed": 3_300, "retired": 1_750, "student": 950, "unemployed": 1_050}
    base = np.array([level[name] for name in employment])
    rise = 1 + 0.008 * np.clip(age - 25, 0, 30) * np.isin(employment, ["employed", "self-employed"])
    return np.maximum(base * rise * np.where(sex == "f", 0.86, 1.0) * np.exp(rng.normal(0, 0.32, len(base))), 400)


def _notes(rng: np.random.Generator, rows: int) -> Array:
    """Up to three phrases of an agent."""
    said: list[list[str]] = [[] for _ in range(rows)]
    for phrase, (share, _) in PHRASES.items():
        for row in np.flatnonzero(rng.random(rows) < share):
            if len(said[row]) < 3:
                said[row].insert(int(rng.integers(0, len(said[row]) + 1)), phrase)
    return np.array(["; ".join(phrases).capitalize() for phrases in said], object)


def probability(loans: dict[str, Array], world: World) -> Array:
    """The chance of a default, from what stands in the row and nothing else."""
    age, income, months = loans["age"], loans["income"], loans["months"]
    employment, years = loans["employment"], np.nan_to_num(loans["years_employed"])
    known = np.nan_to_num(np.log(loans["amount"] * (1 + 0.006 * months) / months / income) + 2.5)  # 0: a usual burden
    odds = 1.05 * np.clip(known, -2.5, 2.5)
    odds += np.where(np.isnan(income), np.where(employment == "self-employed", 1.5, 0.4), 0.0)
    odds += [EMPLOYMENT_RISK[name] for name in employment] - 0.09 * np.minimum(years, 10)
    odds += [PURPOSE_RISK[name] for name in loans["purpose"]]
    odds += [REGION_RISK[name] for name in loans["region"]] + world.north * (loans["region"] == "north")
    odds -= 0.24 * world.savings * np.log1p(loans["savings"] / 100)
    odds -= 0.7 * loans["owns_home"]
    odds += 0.9 * np.clip((30 - age) / 10, 0, 1.2) + 0.5 * np.clip((age - 62) / 15, 0, 1)
    odds += 0.8 * ((months >= 48) & (age < 30)) + 0.6 * ((loans["purpose"] == "business") & (years < 2))
    odds -= 0.07 * np.minimum((loans["granted"] - loans["customer_since"]).astype(float) / 365, 12)
    for phrase, (_, weight) in PHRASES.items():
        said = np.array([phrase in note.casefold() for note in loans["note"]])
        odds += (weight + (world.app if phrase == "applied in the app" else 0.0)) * said
    return np.asarray(1 / (1 + np.exp(-(world.rate + STRENGTH * odds))))


def area(chance: Array, event: Array) -> float:
    """Area under the ROC curve (chances are continuous: no ties to speak of)."""
    ranks = np.argsort(np.argsort(chance)) + 1.0
    events = int(event.sum())
    return float((ranks[event].sum() - events * (events + 1) / 2) / (events * (len(event) - events)))


def written(loans: dict[str, Array], first: int) -> list[dict[str, str]]:
    """Rows as text: whole numbers, yes and no, an empty cell where a value is missing."""
    rows = []
    for place in range(len(loans["age"])):
        cells = {name: _cell(column[place]) for name, column in loans.items()}
        rows.append({"loan_id": f"L{first + place:06d}", **cells})
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if np.isnan(value) else str(int(value))
    return str(value)


def save(path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def told(name: str, chance: Array, event: Array) -> str:
    """A line about rows whose chances are known: what no model can beat."""
    brier = float(np.mean((chance - event) ** 2))
    return (
        f"{name}: {len(event):,} rows, {event.mean():.1%} defaults; "
        f"best possible ROC AUC {area(chance, event):.3f}, Brier score {brier:.4f}\n"
    )


def make(folder: Path) -> None:
    """Write the three files and say what the best model could reach."""
    rng = np.random.default_rng(SEED)
    loans = draw(TODAY, FIRST, int((CUT - FIRST).astype(int)), ROWS, rng)
    chance = probability(loans, TODAY)
    event = rng.random(ROWS) < chance
    when = loans["granted"] + rng.integers(45, KNOWN_AFTER, ROWS).astype("timedelta64[D]")
    mature = loans["granted"] + np.timedelta64(KNOWN_AFTER, "D") <= CUT
    rows = written(loans, 1)
    for row, defaulted, known, at in zip(rows, event, mature, when, strict=True):
        # Young loans: those that failed already are known, the others are not: rows to stay away from.
        row["default"] = ("yes" if at < CUT else "") if defaulted and not known else _cell(defaulted) if known else ""
    save(folder / "loans.csv", [*COLUMNS, "default"], rows)

    later = draw(TOMORROW, LATER, LATER_DAYS, LATER_ROWS, rng)
    moved = probability(later, TOMORROW)
    fell = rng.random(LATER_ROWS) < moved
    asked = written(later, ROWS + 1)
    save(folder / "later.csv", COLUMNS, asked)
    answers = [{"id": row["loan_id"], "outcome": _cell(bad)} for row, bad in zip(asked, fell, strict=True)]
    save(folder / "outcomes.csv", ["id", "outcome"], answers)

    sys.stdout.write(told("loans.csv, outcome known", chance[mature], event[mature]))
    sys.stdout.write(f"loans.csv, too young: {int((~mature).sum()):,} rows\n")
    sys.stdout.write(told("later.csv", moved, fell))
    yesterday = area(probability(later, TODAY), fell)
    sys.stdout.write(f"later.csv by the best model of the old world: ROC AUC {yesterday:.3f}\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
