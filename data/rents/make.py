"""Makes the rents of this folder: flats from a stated random process whose noise differs from flat to flat.

    python data/rents/make.py [FOLDER]

Seeded, numpy alone. Writes rents.csv and prints what the best possible model reaches; README.md tells the process.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SEED = 7
ROWS = 3_200
DISTRICTS = {
    "Old Town": 17.5, "Harbour": 16.0, "University": 15.2, "Castle Hill": 18.3, "Station": 12.4, "Riverside": 14.6,
    "Garden City": 13.5, "Mill Quarter": 12.9, "Northfield": 10.8, "Eastgate": 11.1, "Southpark": 13.0,
    "Westend": 14.1, "Airport": 9.9, "Lakeside": 16.7,
}  # fmt: skip
"""Euros a square metre and month."""
OLD = ("Old Town", "Castle Hill", "Harbour")
"""Districts where no two flats are alike: their rents scatter more."""
ENERGY = {"A": 0.08, "B": 0.16, "C": 0.22, "D": 0.24, "E": 0.16, "F": 0.09, "G": 0.05}
COLUMNS = ("district", "size_m2", "rooms", "floor", "built", "energy", "balcony", "furnished", "rent")
INTERVAL = 0.9


def draw(rng: np.random.Generator) -> dict[str, Array]:
    """The flats, without their rents."""
    size = np.round(np.clip(np.exp(rng.normal(4.15, 0.42, ROWS)), 16, 240))
    built = np.round(np.where(rng.random(ROWS) < 0.3, rng.normal(1908, 12, ROWS), rng.normal(1982, 22, ROWS)))
    built = np.clip(built, 1850, 2025)
    energy = rng.choice(np.array(list(ENERGY), object), ROWS, p=list(ENERGY.values()))
    return {
        "district": rng.choice(np.array(list(DISTRICTS), object), ROWS),
        "size_m2": size,
        "rooms": np.clip(np.round(size / 27 + rng.normal(0.2, 0.5, ROWS)), 1, 8),
        "floor": rng.poisson(2.2, ROWS).astype(float),
        "built": np.where(rng.random(ROWS) < 0.08, np.nan, built),
        "energy": np.where(rng.random(ROWS) < 0.12, "", energy),
        "balcony": rng.random(ROWS) < 0.45,
        "furnished": rng.random(ROWS) < 0.12,
    }


def mean_rent(flats: dict[str, Array]) -> Array:
    """What such flats cost on average, in euros a month."""
    price = np.array([DISTRICTS[name] for name in flats["district"]])
    price = price + 2.4 * np.clip((60 - flats["size_m2"]) / 40, 0, 1)  # small flats cost more a square metre
    age = 2025 - np.nan_to_num(flats["built"], nan=1960)
    price = price + np.select([age < 12, age > 105], [2.6, 0.7], 0.0)
    price = price + 0.22 * np.minimum(flats["floor"], 6) * (age < 60)  # high up is fine where there is a lift
    better = {"A": 1.1, "B": 0.7, "C": 0.3, "D": 0.0, "E": -0.3, "F": -0.8, "G": -1.2, "": -0.1}
    price = price + [better[name] for name in flats["energy"]]
    fixed = 45 * flats["balcony"] + flats["furnished"] * (90 + 2.5 * flats["size_m2"])
    return np.asarray(price * flats["size_m2"] * 0.92 + fixed)


def scatter(flats: dict[str, Array], mean: Array) -> Array:
    """Standard deviation of a flat's rent: a few per cent, and much more in old districts and for furnished flats."""
    share = 0.05 + 0.06 * np.isin(flats["district"], OLD) + 0.05 * flats["furnished"]
    return np.asarray(15 + share * mean)


def make(folder: Path) -> None:
    """Write the file and say what the best model could reach."""
    rng = np.random.default_rng(SEED)
    flats = draw(rng)
    mean = mean_rent(flats)
    spread = scatter(flats, mean)
    rent = np.maximum(np.round(mean + spread * rng.normal(0, 1, ROWS)), 150)
    with (folder / "rents.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        columns = [*flats.values(), rent]
        table.writerows([_cell(column[row]) for column in columns] for row in range(ROWS))
    rmse = float(np.sqrt(np.mean((rent - mean) ** 2)))
    explained = 1 - float(np.var(rent - mean) / np.var(rent))
    widths = 2 * 1.645 * spread
    low, high = np.quantile(widths, [0.1, 0.9])
    sys.stdout.write(
        f"rents.csv: {ROWS:,} flats, rent {np.mean(rent):,.0f} on average; best possible RMSE {rmse:.1f}, "
        f"R2 {explained:.3f}\n90 % intervals need {np.mean(widths):,.0f} on average, from {low:,.0f} to {high:,.0f}\n"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if np.isnan(value) else str(int(value))
    return str(value)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
