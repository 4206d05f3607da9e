"""Abstaining in text classification: every wish reaches its target, mistakes are told, detectors, curves, bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import logsumexp
from scipy.stats import entropy as spread
from sklearn.metrics import roc_auc_score

from llmops.engine.ragged import ragged
from llmops.tasks.text_classification import TextClassification
from llmops.tasks.text_classification.abstention import KEPT_RIGHT, Choice, choose, sure
from llmops.tasks.text_classification.assess import calibrate
from llmops.tasks.text_classification.calibration import softmax
from llmops.tasks.text_classification.codec import TextCodec, TextRequest
from llmops.tasks.text_classification.config import AbstainSection, TextClassificationSection
from llmops.tasks.text_classification.detectors import DETECTORS, Detector, certainty
from llmops.tasks.text_classification.proof import warnings
from llmops.tasks.text_classification.tradeoff import (
    Sure,
    choices,
    figures,
    lead,
    parting,
    picture,
    tradeoff,
)
from tests import standin

CLASSES = 5
OUTSIDE = -1


def made(rows: int = 600, foreign: int = 200, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits and class numbers: of a class one logit stands out, mostly the right one, less so a wrong one; of none all
    are low, so that the sum of their powers tells them apart better than the shares do."""
    chance = np.random.Generator(np.random.PCG64(seed))
    labels = np.concatenate([chance.integers(0, CLASSES, rows), np.full(foreign, OUTSIDE)])
    logits = chance.normal(size=(rows + foreign, CLASSES))
    anyone = chance.integers(0, CLASSES, len(labels))
    said = np.where((labels == OUTSIDE) | (chance.random(len(labels)) < 0.1), anyone, labels)
    logits[np.arange(len(labels)), said] += np.where(said == labels, 4, 3) + chance.normal(size=len(labels))
    logits[labels == OUTSIDE] -= 2
    return logits.astype(np.float32), labels


def wish(**said: Any) -> AbstainSection:
    return AbstainSection.model_validate(said)


def does(chosen: Choice, logits: np.ndarray, labels: np.ndarray) -> Any:
    return figures(sure(chosen.detector, logits, labels, 1.0), chosen.threshold)


# --- wishes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coverage", "answered_accuracy", "outside_recall"])
@pytest.mark.parametrize("target", [0.5, 0.93, 0.97])
def test_a_target_is_reached_and_no_more_than_needed_is_paid(name: str, target: float) -> None:
    logits, labels = made()
    chosen = choose(wish(**{name: target}), logits, labels, 1.0)
    found = does(chosen, logits, labels)
    assert found[name] >= target - 1e-9
    rows = sure(chosen.detector, logits, labels, 1.0)
    curve = tradeoff(rows)
    reached = getattr(curve, name) >= target - 1e-9
    if name == "coverage":
        assert found["outside_recall"] == curve.outside_recall[reached].max()
    else:
        assert found["coverage"] == curve.coverage[reached].max()


def test_coverage_without_outside_rows_keeps_the_least_sure_back() -> None:
    logits, labels = made(foreign=0)
    chosen = choose(wish(coverage=0.9), logits, labels, 1.0)
    assert chosen.detector == "probability"
    assert does(chosen, logits, labels)["coverage"] == pytest.approx(0.9, abs=0.002)


@pytest.mark.parametrize("prices", [{}, {"wrong": 1, "withheld": 10}, {"wrong": 2, "withheld": 1, "outside": 9}])
def test_the_cheapest_threshold_is_taken(prices: dict[str, float]) -> None:
    logits, labels = made()
    section = wish(cost=prices)
    chosen = choose(section, logits, labels, 1.0)
    assert section.cost is not None
    price = section.cost
    foreign = price.wrong if price.outside is None else price.outside
    scores = certainty(chosen.detector, logits, 1.0)
    right = logits.argmax(1) == labels

    def cost(threshold: float) -> float:
        given = scores >= threshold
        inside = labels >= 0
        wrong, withheld = (inside & given & ~right).sum(), (inside & ~given).sum()
        return float(price.wrong * wrong + price.withheld * withheld + foreign * (given & ~inside).sum())

    assert cost(chosen.threshold) == min(cost(threshold) for threshold in [-np.inf, *scores])


def test_dear_withholding_answers_everything() -> None:
    logits, labels = made()
    assert choose(wish(cost={"wrong": 1, "withheld": 1e6, "outside": 0}), logits, labels, 1.0).threshold <= min(
        certainty("energy", logits[labels >= 0], 1.0)
    )


def test_never_answers_everything() -> None:
    logits, labels = made()
    chosen = choose(AbstainSection.model_validate("never"), logits, labels, 1.0)
    assert chosen == Choice("probability", 0.0)
    assert does(chosen, logits, labels)["coverage"] == 1.0


def test_by_default_few_right_answers_are_lost() -> None:
    logits, labels = made()
    chosen = choose(None, logits, labels, 1.0)
    rows = sure(chosen.detector, logits, labels, 1.0)
    right = rows.right & ~rows.outside
    kept = (rows.scores[right] >= chosen.threshold).mean()
    assert KEPT_RIGHT <= kept < KEPT_RIGHT + 0.02
    assert does(chosen, logits, labels)["outside_recall"] > 0.3


def test_by_default_a_clean_cut_loses_none() -> None:
    sharp, dull = [9.0, 0.0, 0.0], [1.0, 0.5, 0.5]
    logits = np.array([sharp] * 8 + [dull] * 4 + [sharp], np.float32)
    labels = np.array([0] * 8 + [OUTSIDE] * 5)
    chosen = choose(None, logits, labels, 1.0)
    assert does(chosen, logits, labels) == {"outside_recall": 0.8, "coverage": 1.0, "answered_accuracy": 1.0}


def test_by_default_without_outside_rows_98_percent_of_the_right_answers_stay() -> None:
    best = np.linspace(0.5, 0.99, 1000)
    logits, labels = np.log(np.stack([best, 1 - best], 1)), np.zeros(1000, np.int64)
    chosen = choose(None, logits, labels, 1.0)
    assert chosen.detector == "probability"
    assert does(chosen, logits, labels)["coverage"] == pytest.approx(0.98, abs=0.002)


@pytest.mark.parametrize(
    ("said", "foreign", "word"),
    [
        ({"answered_accuracy": 1.0}, 0, "answered_accuracy 1; the best on validation is 0."),
        ({"outside_recall": 1.0}, 40, "outside_recall 1; the best on validation is 0."),
        ({"outside_recall": 0.9}, 0, "no validation row has the label `outside`"),
        ({"answered_accuracy": 0.999}, 40, "leaves only"),
    ],
)
def test_what_cannot_be_had_is_told_and_the_nearest_taken(said: dict[str, float], foreign: int, word: str) -> None:
    logits, labels = made(foreign=foreign)
    if "best" in word:  # the surest of all is wrong, or belongs to no class
        logits[-1] = [99, 0, 0, 0, 0]
        labels[-1] = OUTSIDE if foreign else 1
    chosen = choose(wish(**said), logits, labels, 1.0)
    assert word in chosen.note
    curve = tradeoff(sure(chosen.detector, logits, labels, 1.0))
    if "best" in word:
        [name] = said
        assert does(chosen, logits, labels)[name] == np.nanmax(getattr(curve, name))
    assert warnings({"outside_recall": 0.5}, {"abstain_note": chosen.note}) == [chosen.note]


def test_odd_validation_rows_never_break_it() -> None:
    for labels in ([], [OUTSIDE], [0], [1], [0, OUTSIDE], [0, 0]):
        logits = np.tile(np.array([2.0, 1.0], np.float32), (len(labels), 1))  # all equally sure
        for section in (None, wish(coverage=0.5), wish(answered_accuracy=1), wish(outside_recall=1), wish(cost={})):
            chosen = choose(section, logits, np.array(labels, np.int64), 1.0)
            assert (chosen.detector, chosen.threshold) == ("probability", 0.0)


# --- config ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "outside", "word"),
    [
        ({}, "o", "exactly one of never, coverage"),
        ({"coverage": 0.9, "cost": {}}, "o", "here stand coverage and cost"),
        ("nevr", "o", "write `never`, or one wish"),
        (0.95, "o", "write `never`, or one wish"),
        ({"coverage": 95}, "o", "less than or equal to 1"),
        ({"coverage": 0}, "o", "greater than 0"),
        ({"cost": {"wrong": 0, "outside": 0}}, "o", "must cost something"),
        ({"cost": {"withheld": 0}}, "o", "greater than 0"),
        ({"outside_recall": 0.9}, None, "name their label with `outside`, or choose `coverage`"),
        ({"cost": {"outside": 2}}, None, "name their label with `outside`"),
    ],
)
def test_mistakes_say_what_to_do(said: Any, outside: str | None, word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        TextClassificationSection.model_validate({"outside": outside, "abstain": said})


@pytest.mark.parametrize("said", [None, "never", {"coverage": 0.9}, {"cost": {"wrong": 3}}])
def test_a_section_comes_back_from_its_plain_form(said: Any) -> None:
    section = TextClassificationSection.model_validate({"abstain": said})
    assert TextClassificationSection.model_validate(section.plain()) == section
    assert "abstain" not in TextClassification().preparing(section)


# --- detectors -------------------------------------------------------------------------------------------------------


def test_detectors_are_what_their_papers_say() -> None:
    logits = np.random.Generator(np.random.PCG64(3)).normal(size=(50, 4)) * 5
    shares = softmax(logits, 2.0)
    ranked = np.sort(shares, 1)
    expected = {
        "probability": shares.max(1),
        "margin": ranked[:, -1] - ranked[:, -2],
        "entropy": 1 - spread(shares, axis=1, base=4),
        "energy": logsumexp(logits, axis=1),
    }
    assert set(expected) == set(DETECTORS)
    for name, detector in DETECTORS.items():
        np.testing.assert_allclose(detector(logits, 2.0), expected[name], atol=1e-9)


@pytest.mark.parametrize("detector", list(DETECTORS))
def test_detectors_stay_numbers(detector: Detector) -> None:
    wild = np.array([[3e38, -3e38], [0, 0], [-3e38, -3e38]], np.float32)
    assert np.isfinite(certainty(detector, wild, 0.05)).all()
    assert certainty(detector, np.zeros((1, 1)), 1.0).shape == (1,)


def test_the_detector_that_parts_best_is_chosen_when_outside_rows_show_it() -> None:
    logits, labels = made()
    areas = {name: parting(sure(name, logits, labels, 1.0)) for name in DETECTORS}
    assert max(areas, key=lambda name: areas[name] or 0) == "energy"
    assert choose(None, logits, labels, 1.0).detector == "energy"
    assert choose(wish(answered_accuracy=0.95), logits, labels, 1.0).detector == "probability"
    inside = labels >= 0
    assert choose(None, logits[inside], labels[inside], 1.0).detector == "probability"


def test_a_handful_of_outside_rows_proves_no_detector_better() -> None:
    logits, labels = made()
    few = np.concatenate([np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)[:9]])
    assert choose(None, logits[few], labels[few], 1.0).detector == "probability"


def test_without_a_difference_the_largest_probability_stays() -> None:
    logits, labels = made()
    level = logits - logsumexp(logits, axis=1, keepdims=True)  # the energy of every row is 0
    two = level[:, :2]  # and of two classes all but the energy sort rows alike
    assert choose(None, two, np.minimum(labels, 1), 1.0).detector == "probability"


def test_the_area_is_scikit_learns_and_the_leads_error_that_of_resampling() -> None:
    logits, labels = made(300, 60)
    ours, theirs = (sure(name, np.round(logits), labels, 1.0) for name in ("energy", "probability"))  # with ties
    inside = labels >= 0
    areas = [roc_auc_score(inside, rows.scores) for rows in (ours, theirs)]
    assert [parting(ours), parting(theirs)] == pytest.approx(areas)
    ahead, error = lead(ours, theirs)
    assert ahead == pytest.approx(areas[0] - areas[1])
    chance = np.random.Generator(np.random.PCG64(5))
    again = []
    for _ in range(200):
        picked = np.concatenate([chance.integers(0, 300, 300), chance.integers(300, 360, 60)])
        found = [roc_auc_score(inside[picked], rows.scores[picked]) for rows in (ours, theirs)]
        again.append(found[0] - found[1])
    assert error == pytest.approx(np.std(again), rel=0.3)


# --- curves ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.booleans(), st.booleans()), min_size=1))
def test_what_only_falls_or_rises_does_so_and_each_cut_does_what_it_says(rows: list[tuple[float, bool, bool]]) -> None:
    scores, right, outside = (np.array(column) for column in zip(*rows, strict=True))
    made_rows = Sure(scores, right & ~outside, outside)
    curve = tradeoff(made_rows)
    assert (np.diff(curve.cuts) > 0).all()
    assert not (np.diff(curve.coverage) > 0).any()
    assert not (np.diff(curve.outside_recall) < 0).any()
    for place, cut in enumerate(curve.cuts):
        for name, value in figures(made_rows, cut).items():
            there = getattr(curve, name)[place]
            assert np.isnan(there) if value is None else there == pytest.approx(value)


def test_neighbouring_floats_are_parted() -> None:
    low = 0.3
    rows = Sure(np.array([low, np.nextafter(low, 1)]), np.array([False, True]), np.array([False, False]))
    assert tradeoff(rows).coverage.tolist() == [1.0, 0.5]


def test_the_report_shows_the_three_curves_and_the_bundles_own_line() -> None:
    logits, labels = made()
    rows = sure("energy", logits, labels, 1.0)
    [curve] = picture(rows, "the test rows")
    assert set(curve.lines) == {"coverage", "answered accuracy", "outside recall"}
    assert all(0 <= share <= 1 and np.isfinite(at) for line in curve.lines.values() for at, share in line)
    table = choices(rows, 3.0, "the test rows")
    assert "keeping an answer back" in table.title
    found = figures(rows, 3.0)
    assert table.rows[0] == ["3 (the bundle's)", found["coverage"], found["answered_accuracy"], found["outside_recall"]]
    assert table.rows[1][:2] == ["never abstain", 1.0]
    assert [row[1] for row in table.rows[1:]] == sorted((row[1] for row in table.rows[1:]), reverse=True)  # type: ignore[type-var]
    [inside] = picture(sure("energy", logits[labels >= 0], labels[labels >= 0], 1.0), "x")
    assert set(inside.lines) == {"coverage", "answered accuracy"}


# --- bundles ---------------------------------------------------------------------------------------------------------


def test_what_calibration_says_is_what_the_codec_does(tmp_path: Path) -> None:
    logits, labels = made()
    ragged([[1]] * len(labels), labels.tolist()).write(tmp_path / "valid.safetensors")
    fitted, said = calibrate(TextClassificationSection(text="text", label="label"), tmp_path, logits)
    assert fitted["detector"] == "energy"
    assert set(said) == {"outside_recall", "coverage", "answered_accuracy", "outside_auroc"}
    codec = bundled(tmp_path / "bundle", **fitted)
    answers = codec.decode([logits], [TextRequest(text="x")] * len(labels))
    given = np.array([not answer.abstained for answer in answers])
    assert given[labels >= 0].mean() == said["coverage"]
    assert (~given[labels < 0]).mean() == said["outside_recall"]
    sureness = certainty("energy", logits, fitted["temperature"])
    np.testing.assert_allclose([answer.certainty for answer in answers], sureness, atol=1e-6)
    shares = softmax(logits, fitted["temperature"]).max(1)
    np.testing.assert_allclose([answer.probability for answer in answers], shares, atol=1e-6)
    assert all((answer.label is None) == answer.abstained for answer in answers)


def test_a_bundle_of_before_answers_as_before(tmp_path: Path) -> None:
    codec = bundled(tmp_path / "bundle", threshold=0.6)
    assert "detector" not in json.loads((tmp_path / "bundle" / "bundle.json").read_text())["settings"]
    logits = np.log(np.array([[0.59, 0.41, 1e-9], [0.61, 0.39, 1e-9]]))
    answers = codec.decode([logits], [TextRequest(text="x")] * 2)
    assert [answer.abstained for answer in answers] == [True, False]
    assert [answer.certainty for answer in answers] == [answer.probability for answer in answers]


@pytest.mark.parametrize("detector", ["probability", "margin", "entropy"])
def test_a_threshold_out_of_its_range_is_refused(tmp_path: Path, detector: str) -> None:
    from llmops.core.errors import DataError

    with pytest.raises(DataError, match="threshold"):
        bundled(tmp_path / "bundle", detector=detector, threshold=1.5)


def bundled(folder: Path, **fitted: Any) -> TextCodec:
    """The codec of a stand-in bundle with these settings."""
    standin.make_bundle(folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    labels = [f"label {number}" for number in range(CLASSES)]
    manifest["settings"] |= {"labels": labels, **fitted}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return TextCodec(folder)
