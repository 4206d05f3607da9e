"""Do the intervals hold what they say? Fresh towns of the rents' process, a model of each, thousands of new flats.

    python benchmarks/coverage.py [--towns 5] [--members linear trees network]

Each town is drawn anew (data/rents/make.py), as many rows as the shipped table has are split and learnt from as
configs/rents.yaml says, and 5,000 flats that nobody saw are answered. One JSON line last: the share of true rents
within the 90 % interval, in each town and over all, and what such an interval is wide.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.quiet import Quiet

ROOT = Path(__file__).resolve().parent.parent
LEARNT, VALID, FRESH = 2_270, 330, 5_000


def process() -> Any:
    """data/rents/make.py."""
    spec = importlib.util.spec_from_file_location("rents", ROOT / "data/rents/make.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def town(seed: int, section: Any, made: Any) -> Any:
    """Rows of a new town, as prepare hands them to the encoder."""
    import pyarrow as pa

    from llmops.fields import kind_of
    from llmops.fields.rows import Columned

    made.ROWS = LEARNT + VALID + FRESH
    rng = np.random.default_rng(seed)
    flats = made.draw(rng)
    mean = made.mean_rent(flats)
    rent = np.maximum(np.round(mean + made.scatter(flats, mean) * rng.normal(0, 1, made.ROWS)), 150)
    cells = {name: [made._cell(value) for value in column] for name, column in flats.items()}
    table = pa.table({name: kind_of(section.fields[name]).read_column(pa.array(v)).values for name, v in cells.items()})
    return Columned(table).with_values("label", rent)


def covered(seed: int, members: list[str], made: Any) -> dict[str, float]:
    """Coverage, width and mean error in one town."""
    from llmops.tasks.tabular.arrays import Arrays
    from llmops.tasks.tabular.config import TabularSection, TabularTrainSection
    from llmops.tasks.tabular.encoder import TabularEncoder
    from llmops.tasks.tabular.learner import TabularLearner
    from llmops.tasks.tabular.quality import figures

    section = TabularSection(**yaml.safe_load((ROOT / "configs/rents.yaml").read_text())["task"])
    settings = TabularTrainSection(members=members)  # type: ignore[arg-type]
    rows = town(seed, section, made)
    ends = {"train": (0, LEARNT), "valid": (LEARNT, LEARNT + VALID), "test": (LEARNT + VALID, len(rows))}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        splits = {split: rows.take(np.arange(*span)) for split, span in ends.items()}
        TabularEncoder(section, settings).prepare(splits, folder / "dataset")
        learner = TabularLearner(section, settings, seed)
        learner.train(folder / "dataset", folder / "work", Quiet(folder))
        test = Arrays.read(folder / "dataset", "test")
        found = figures(section, learner.settled, learner.predict(folder / "dataset", "test"), test.y, test.weight)
    return {name: found[name] for name in ("interval_coverage", "interval_width", "mae")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, default=5)
    parser.add_argument("--members", nargs="+", default=["linear", "trees", "network"])
    asked = parser.parse_args()
    made = process()
    found = []
    for seed in range(1, asked.towns + 1):
        found.append(covered(seed, asked.members, made))
        sys.stderr.write(f"town {seed}: {found[-1]}\n")
    whole = {name: round(float(np.mean([one[name] for one in found])), 4) for name in found[0]}
    towns = [round(one["interval_coverage"], 4) for one in found]
    sys.stdout.write(json.dumps({"members": asked.members, "towns": towns, **whole}) + "\n")


if __name__ == "__main__":
    main()
