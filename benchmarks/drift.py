"""Measures the drift alarm: how often it fires on old rows (it should not) and on rows that really changed.

    .venv/bin/python benchmarks/drift.py banking77 ../shared/data    # 20 resamples for each line, about 8 minutes
    .venv/bin/python benchmarks/drift.py support data/support

A stand-in (TF-IDF and logistic regression, trained on the training rows only) answers in the place of a bundle,
so that the figures tell of the tests and not of one model. Reference rows and resampled rows never overlap.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmops.core.report import markdown_table
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.feedback.drift import ABSTAINS, Drift, Sample, measure
from llmops.tasks.base import TEXT

Rows = list[tuple[str, str]]
DEFAULTS = FeedbackSection()
KIND = TEXT["text"]


@dataclass(frozen=True)
class World:
    """`old` are held-out rows; `shifts` name what may be mixed in, and the share of it."""

    train: Rows
    old: Rows
    shifts: dict[str, tuple[Rows, float]]
    reference: int


def read(path: Path, text: str, label: str | None) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row[text], row[label] if label else "") for row in csv.DictReader(stream)]


def banking77(data: Path) -> World:
    """Twelve of the 77 intents are left out; they, another bank's questions and film reviews are what is new."""
    train = read(data / "banking77/train.csv", "text", "category")
    test = read(data / "banking77/test.csv", "text", "category")
    left_out = set(random.Random(0).sample(sorted({label for _, label in train}), 12))
    intents = [row for row in test if row[1] in left_out]
    faq = read(data / "bank_faq/BankFAQs.csv", "Question", None)
    films = read(data / "imdb_sample/val.csv", "text", None)
    shifts = {
        "20 % new intents": (intents, 0.2), "30 % new intents": (intents, 0.3),
        "20 % another bank": (faq, 0.2), "20 % film reviews": (films, 0.2),
    }  # fmt: skip
    return World([r for r in train if r[1] not in left_out], [r for r in test if r[1] not in left_out], shifts, 600)


def support(data: Path) -> World:
    """The shop's test file against its next month: new phrasings and a new intent."""
    train = [row for path in sorted(data.glob("train.csv")) for row in read(path, "utterance", "intent")]
    old, new = (read(data / name, "utterance", "intent") for name in ("test.csv", "next_month.csv"))
    known = {label for _, label in train}
    shifts = {
        "next month": (new, 1.0),
        "next month without the new intent": ([row for row in new if row[1] in known], 1.0),
    }
    return World([row for row in train if row[1] != "out_of_scope"], old, shifts, 390)


def answerer(world: World) -> Callable[[list[str]], Sample]:
    """The stand-in's answers; it abstains on the least sure twentieth of the old rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=20, max_iter=500)
    )
    model.fit(*zip(*world.train, strict=True))
    threshold = np.quantile(model.predict_proba([text for text, _ in world.old]).max(axis=1), 0.05)

    def answer(texts: list[str]) -> Sample:
        found = model.predict_proba(texts)
        labels = np.where(found.max(axis=1) < threshold, ABSTAINS, model.classes_[found.argmax(axis=1)])
        return Sample([str(label) for label in labels], found.max(axis=1), {"text": KIND.column(texts)})

    return answer


def draw(world: World, shift: str | None, rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Reference texts, and `rows` new texts."""
    chance = random.Random(seed)
    old = chance.sample([text for text, _ in world.old], len(world.old))
    reference, rest = old[: world.reference], old[world.reference :]
    if shift is None:
        return reference, rest[:rows]
    source, share = world.shifts[shift]
    mixed = chance.sample([text for text, _ in source], min(round(rows * share), len(source)))
    return reference, mixed + (rest[: rows - len(mixed)] if share < 1 else [])


def line(world: World, answer: Callable[[list[str]], Sample], shift: str | None, rows: int, trials: int) -> list[str]:
    """One row of the table."""
    known = {"text": KIND.known(KIND.column([text for text, _ in world.train]))}
    found: list[Drift] = []
    began = time.perf_counter()
    for seed in range(trials):
        old, new = draw(world, shift, rows, seed)
        found.append(measure(answer(old), answer(new), TEXT, known, DEFAULTS.drift_p, DEFAULTS.drift_effect, seed))
    took_s = (time.perf_counter() - began) / trials
    effects = [
        f"{np.mean([drift.findings[test].effect for drift in found]):.3f} "
        f"({sum(drift.findings[test].fires for drift in found)})"
        for test in range(len(found[0].findings))
    ]
    fired = f"{sum(drift.fires for drift in found)} of {trials}"
    return [shift or "nothing", str(found[0].new_rows), fired, *effects, f"{took_s:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=["banking77", "support"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=None, help="sizes of the new sample")
    given = parser.parse_args()
    world = {"banking77": banking77, "support": support}[given.world](given.data)
    sizes = given.rows or ([100, 200, 500] if given.world == "banking77" else [100, 200])
    answer = answerer(world)
    tests = ["labels", "confidence", "unknown words", "texts"]
    columns = ["what changed", "rows", "fired", *(f"{test}: effect (fired)" for test in tests), "s each"]
    table = [line(world, answer, shift, rows, given.trials) for shift in (None, *world.shifts) for rows in sizes]
    sys.stdout.write(markdown_table(columns, [list(row) for row in table]) + "\n")


if __name__ == "__main__":
    main()
