"""The drift tests: calibrated when nothing changed, awake when something did, whatever the sample size."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llmops.fields.domain import tell_apart, words
from llmops.fields.permutation import against_chance, holm, mid_ranks, mix_shift, rise, value_shift
from llmops.stages.feedback.drift import Drift, Sample, measure
from llmops.stages.feedback.movers import moved_labels, moved_words
from llmops.tasks.base import TEXT
from tests.shared import SHARED

ROOT = Path(__file__).parent.parent
BANKING = SHARED / "banking77"
FAQ = SHARED / "bank_faq" / "BankFAQs.csv"
LIMITS = {"p_limit": 0.01, "effect_limit": 0.08}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mid_ranks_are_scipys() -> None:
    from scipy.stats import rankdata

    columns = rng().integers(0, 6, (50, 7)).astype(float)
    assert np.array_equal(mid_ranks(columns), rankdata(columns, axis=0))


def test_holm_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_distance_of_values_is_scipys() -> None:
    from scipy.stats import ks_2samp

    old, new = rng(1).normal(size=300).round(1), rng(2).normal(0.5, size=200).round(1)
    chance = np.zeros(9)  # nothing to correct for
    expected = ks_2samp(old, new).statistic
    found = value_shift(old, new, rng())
    assert 0 < found.p <= 1 / 1000, "none of the permutations reached it; their tail tells how far off it is"
    # The effect is the statistic, corrected by what chance shows at these sizes (about 0.87 * sqrt(1/300 + 1/200)).
    by_chance = 0.869 * (1 / 300 + 1 / 200) ** 0.5
    assert found.effect == pytest.approx((expected - by_chance) / (1 - by_chance), abs=0.02)
    assert against_chance(0.4, chance).effect == pytest.approx(0.4)


def test_rise_is_twice_the_area_minus_one() -> None:
    from sklearn.metrics import roc_auc_score

    old, new = rng(1).normal(size=300), rng(2).normal(1.0, size=200)
    area = roc_auc_score([0] * 300 + [1] * 200, np.concatenate([old, new]))
    assert rise(old, new, rng()).effect == pytest.approx(2 * area - 1, abs=0.02)
    assert rise(new, old, rng()).effect == 0.0  # only a rise counts


@pytest.mark.parametrize("test", [mix_shift, value_shift, rise])
def test_p_values_are_uniform_when_nothing_changed(test) -> None:
    """Under the null hypothesis p must not be small more often than it says."""
    found = []
    for seed in range(60):
        values = rng(seed).integers(0, 8, 200).astype(float)
        halves = ([str(v) for v in values[:120]], [str(v) for v in values[120:]])
        old, new = halves if test is mix_shift else (values[:120], values[120:])
        found.append(test(old, new, rng(seed)))
    assert sum(shift.p <= 0.1 for shift in found) <= 13  # 6 expected; above 13 one time in 500
    assert sum(shift.p <= 0.5 for shift in found) >= 15  # and it is not asleep either
    assert np.mean([shift.effect for shift in found]) < 0.06


@pytest.mark.parametrize("rows", [60, 600, 6000])
def test_effects_do_not_grow_when_rows_get_few(rows: int) -> None:
    """Three rows of ten are new: the effect is 0.3 for many rows. For few it may be less, but never more: the raw
    distance, 0.43 at 60 rows, would cry wolf."""
    effects = []
    for seed in range(5):
        chance = rng(seed)
        old = [f"label {n}" for n in chance.integers(0, 20, rows)]
        new = [f"label {n}" for n in chance.integers(0, 20, 7 * rows // 10)] + ["new"] * (3 * rows // 10)
        effects.append(mix_shift(old, new, chance).effect)
    assert (0.27 if rows > 1000 else 0.12) < np.mean(effects) < 0.32


def test_words_of_any_script() -> None:
    assert words("Don't send <email> to Bob_2!") == ["don't", "send", "<email>", "to", "bob", "2"]
    assert words("房间很好 ok") == ["房", "间", "很", "好", "ok"]


def test_movers_name_what_moved() -> None:
    old = ["where is my parcel", "the parcel is late", "is my refund here"] * 20
    new = ["where is my locker", "the locker is stuck", "is my refund here"] * 20
    assert {word.name for word in moved_words(old, new)[:2]} == {"locker", "parcel"}
    labels = moved_labels(["a", "b", "b", "c"], ["a", "c", "c", "c"])
    assert [(label.name, label.old, label.new) for label in labels] == [("b", 0.5, 0.0), ("c", 0.25, 0.75)]
    assert moved_words(["same"], ["same"]) == []


def banking() -> list[tuple[str, str]]:
    if not BANKING.is_dir() or not FAQ.is_file():
        pytest.skip("the BANKING77 data is not on this machine")
    with (BANKING / "test.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def test_the_classifier_tells_domains_apart_and_names_the_strangers() -> None:
    rows = random.Random(0).sample([text for text, _ in banking()], 600)
    with FAQ.open(encoding="utf-8", newline="") as stream:
        strangers = [row["Question"] for row in csv.DictReader(stream)][:60]
    same, _ = tell_apart(rows[:400], rows[400:], rng())
    assert same.p > 0.01
    mixed, newness = tell_apart(rows[:400], rows[400:540] + strangers, rng())
    assert mixed.p < 0.01
    assert mixed.effect > 0.1
    strangest = np.argsort(-newness)[:20]
    assert np.mean(strangest >= 140) > 0.7  # 30 % by chance


class Oracle:
    """Answers like a fair model: right labels, sure of what it knows and unsure of strangers."""

    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)

    def __call__(self, rows: list[tuple[str, str]], strangers: list[str] = []) -> Sample:  # noqa: B006
        sure, unsure = self.chance.beta(9, 1, len(rows)), self.chance.beta(4, 4, len(strangers))
        labels = [label for _, label in rows] + [str(label) for label in self.chance.choice(50, len(strangers))]
        return Sample(labels, np.concatenate([sure, unsure]), {"text": column([text for text, _ in rows] + strangers)})


def column(texts: list[str]) -> np.ndarray:
    return TEXT["text"].column(texts)


def seen(vocabulary: set[str]) -> dict[str, dict[str, list[str]]]:
    """What training saw."""
    return {"text": {"words": sorted(vocabulary)}}


def drifted(seed: int, strangers: bool, size: int = 200) -> Drift:
    rows = banking()
    random.Random(seed).shuffle(rows)
    known = seen({word for text, _ in rows[1000:] for word in words(text)})
    answer = Oracle(seed)
    old = answer(rows[:500])
    if not strangers:
        return measure(old, answer(rows[500 : 500 + size]), TEXT, known, **LIMITS, seed=seed)
    with FAQ.open(encoding="utf-8", newline="") as stream:
        other = [row["Question"] for row in csv.DictReader(stream)]
    count = size // 4
    new = answer(rows[500 : 500 + size - count], random.Random(seed).sample(other, count))
    return measure(old, new, TEXT, known, **LIMITS, seed=seed)


def test_silent_on_old_rows() -> None:
    assert sum(drifted(seed, strangers=False).fires for seed in range(8)) <= 1


def test_fires_on_strangers_and_explains() -> None:
    found = [drifted(seed, strangers=True) for seed in range(4)]
    assert [drift.fires for drift in found] == [True] * 4
    for drift in found:
        told = [test for test, _ in drift.told if test != "labels"]
        assert (told.count("texts"), told.count("unknown words")) == (5, 10)  # the strangest, and words that moved
    assert all(0.0 <= finding.effect <= 1.0 for drift in found for finding in drift.findings)


def test_answers_alone_are_compared_when_no_texts_were_kept() -> None:
    chance = rng()
    old = Sample(["a", "b"] * 200, chance.beta(9, 1, 400))
    new = Sample(["a", "c"] * 200, chance.beta(4, 4, 400))
    drift = measure(old, new, TEXT, seen(set()), **LIMITS)
    assert [(finding.test, finding.fires) for finding in drift.findings] == [("labels", True), ("confidence", True)]
    assert (drift.kept, drift.schema) == (0, [])
    assert {finding.field for finding in drift.findings} == {None}


def test_what_answers_do_not_tell_is_not_tested() -> None:
    chance = rng()
    sure, unsure = chance.beta(9, 1, 400), chance.beta(4, 4, 400)
    answering = ["(answers)"] * 380 + ["(abstains)"] * 20
    old, new = Sample((), sure, abstentions=answering), Sample((), unsure, abstentions=answering[::-1][:200] * 2)
    drift = measure(old, new, TEXT, seen(set()), **LIMITS)
    assert [(found.test, found.fires) for found in drift.findings] == [("abstentions", False), ("confidence", True)]
    assert (drift.old_rows, drift.labels) == (400, [])
    told = Sample(fields={"text": column([f"the parcel {n} is late" for n in range(60)])})
    moved = Sample(fields={"text": column([f"my locker {n} is stuck" for n in range(60)])})
    drift = measure(told, moved, TEXT, seen({"the", "parcel", "my", "is", "late"}), **LIMITS)
    assert [(found.test, found.fires) for found in drift.findings] == [("unknown words", True), ("texts", True)]
    assert (told + moved).rows == 120
    nothing = measure(Sample(), Sample(), TEXT, seen(set()), **LIMITS)
    assert (nothing.findings, nothing.fires, nothing.effect) == ([], False, 0.0)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert drifted(3, strangers=True) == drifted(3, strangers=True)


def test_five_thousand_requests_take_bounded_time() -> None:
    chance = random.Random(0)
    vocabulary = [f"word{index}" for index in range(3000)]
    texts = [" ".join(chance.choices(vocabulary, k=200)) for _ in range(6000)]
    numbers = rng().random(6000)
    labels = [f"label {index % 70}" for index in range(6000)]
    began = time.process_time()
    old, new = slice(None, 1000), slice(1000, None)
    sides = [Sample(labels[part], numbers[part], {"text": column(texts[part])}) for part in (old, new)]
    measure(*sides, TEXT, seen(set(vocabulary)), **LIMITS)
    assert time.process_time() - began < 10  # measured: about 2 s


@pytest.mark.prove
@pytest.mark.parametrize("world", [("banking77", str(SHARED)), ("support", str(ROOT / "data" / "support"))])
def test_measured_over_many_resamples(world: tuple[str, str]) -> None:
    """Silent on 19 of 20 resamples; awake on new intents (30 %), other domains (20 %) and next month."""
    if not Path(world[1]).is_dir():
        pytest.skip("the data is not on this machine")
    command = [sys.executable, str(ROOT / "benchmarks" / "drift.py"), *world, "--rows", "200"]
    done = subprocess.run(command, text=True, capture_output=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    fired = {cells[0]: int(cells[2].split()[0]) for cells in lines}
    assert fired.pop("nothing") <= 1
    fired.pop("20 % new intents", None)  # at the edge of what the default effect lets through
    assert min(fired.values()) >= 18, fired
