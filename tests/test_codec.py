"""codec: texts are cleaned, cut and padded as in training; logits become calibrated answers that may abstain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops.core.errors import DataError
from llmops.fields.cleaning import cleaner
from llmops.fields.config import CleanStep
from llmops.tasks.text_classification.codec import TextCodec, TextRequest
from tests import standin


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    folder = tmp_path_factory.mktemp("codec") / "bundle"
    step = CleanStep(unicode="NFKC", redact=["email"])
    return TextCodec(standin.make_bundle(folder, max_tokens=4, temperature=2.0, threshold=0.6, cleaning=step.plain()))


def ask(*texts: str) -> list[TextRequest]:
    return [TextRequest(text=text) for text in texts]


def test_pads_to_the_longest_of_the_batch_and_cuts(codec: TextCodec) -> None:
    arrays = codec.encode(ask("card", "refund my parcel", "card " * 50))
    np.testing.assert_array_equal(arrays["tokens"], [[2, 0, 0, 0], [4, 1, 3, 0], [2, 2, 2, 2]])
    np.testing.assert_array_equal(arrays["mask"], [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    assert arrays["tokens"].dtype == arrays["mask"].dtype == np.int64


def test_cleans_by_the_bundles_settings(codec: TextCodec) -> None:
    messy = "\uff43ard\u200b  me@example.com"  # full-width c, a zero-width space, an address
    assert cleaner(CleanStep(unicode="NFKC", redact=["email"]).plain())(messy) == "card <email>"
    np.testing.assert_array_equal(codec.encode(ask(messy))["tokens"], codec.encode(ask("card <email>"))["tokens"])


def test_a_text_of_which_nothing_is_left_keeps_one_place(codec: TextCodec) -> None:
    arrays = codec.encode(ask("\u200b", "card parcel"))
    np.testing.assert_array_equal(arrays["mask"], [[1, 0], [1, 1]])


def test_decodes_with_temperature_and_alternatives(codec: TextCodec) -> None:
    [answer] = codec.decode([np.array([[0.0, 4.0, 2.0]], np.float32)], ask("x"))
    powers = np.exp(np.array([0.0, 2.0, 1.0]))
    assert answer.label == answer.best == "parcel"
    assert answer.probability == pytest.approx(powers[1] / powers.sum(), abs=1e-6)
    assert [other.label for other in answer.alternatives] == ["refund", "card"]
    assert not answer.abstained


def test_abstains_below_the_threshold_and_names_its_best_guess(codec: TextCodec) -> None:
    [answer] = codec.decode([np.array([[1.0, 0.0, 0.5]], np.float32)], ask("x"))
    said = answer.plain()
    assert (said["label"], said["best"], said["abstained"]) == (None, "card", True)
    assert said["withheld"] == {
        "answer": "card", "probability": said["probability"], "why": "less sure (0.42) than the threshold (0.60)",
    }  # fmt: skip


def test_an_answer_that_is_given_withholds_nothing(codec: TextCodec) -> None:
    [answer] = codec.decode([np.array([[9.0, 0.0, 0.5]], np.float32)], ask("x"))
    assert (answer.plain()["withheld"], answer.plain()["abstained"]) == (None, False)


def test_why_names_the_measure_and_digits_that_tell_apart(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", threshold=5.1)
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["settings"]["detector"] = "energy"
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    [far, near] = TextCodec(bundle).decode([np.array([[1.0, -90, -90], [5.0996, -90, -90]], np.float32)], ask("x", "y"))
    assert far.withheld is not None and far.withheld.why == "less sure (energy 1.00) than the threshold (5.10)"
    assert near.withheld is not None and near.withheld.why == "less sure (energy 5.0996) than the threshold (5.1000)"


def test_huge_logits_stay_numbers(codec: TextCodec) -> None:
    [answer] = codec.decode([np.array([[3e38, -3e38, 0.0]], np.float32)], ask("x"))
    assert answer.probability == 1.0


@pytest.mark.parametrize("text", ["", "  \n", 7, None])
def test_refuses_what_is_no_text(text: object) -> None:
    with pytest.raises(ValidationError):
        TextRequest.model_validate({"text": text})


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_any_text_encodes(codec: TextCodec, texts: list[str]) -> None:
    arrays = codec.encode(ask(*texts))
    assert arrays["tokens"].shape == arrays["mask"].shape
    assert 1 <= arrays["tokens"].shape[1] <= 4
    assert (arrays["mask"].sum(axis=1) >= 1).all()


def test_a_broken_tokenizer_says_so(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    (bundle / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        TextCodec(bundle)
