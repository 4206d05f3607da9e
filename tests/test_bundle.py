"""bundle: the format is written whole, and every change to a file is found; runtime and predictor answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmops.bundle import format as bundle_format
from llmops.bundle.predictor import Predictor
from llmops.bundle.runtimes import open_runtime
from llmops.core.errors import DataError
from tests import standin


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return standin.make_bundle(tmp_path / "bundle")


def reason(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        bundle_format.read(folder)
    mistake = caught.value.mistakes[0]
    assert mistake.do
    return mistake.what


def edit(folder: Path, **fields: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_reads_what_was_written(bundle: Path) -> None:
    manifest = bundle_format.read(bundle)
    assert manifest.settings["labels"] == standin.LABELS
    assert manifest.runtime == "oneshot"
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "MODEL_CARD.md"}
    assert manifest.files["model.onnx"].size == (bundle / "model.onnx").stat().st_size


def test_a_flipped_byte_is_found(bundle: Path) -> None:
    path = bundle / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "model.onnx was changed" in reason(bundle)


def test_a_cut_file_is_found(bundle: Path) -> None:
    path = bundle / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-1])
    assert "bytes; bundle.json says" in reason(bundle)


def test_a_missing_file_is_found(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    assert "lacks its file model.onnx" in reason(bundle)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    assert "no bundle here" in reason(tmp_path)


def test_a_newer_format_is_refused_with_a_word_on_upgrading(bundle: Path) -> None:
    edit(bundle, format=3)
    with pytest.raises(DataError) as caught:
        bundle_format.read(bundle)
    assert "format 3" in caught.value.mistakes[0].what
    assert "upgrade" in caught.value.mistakes[0].do


def test_an_older_format_is_refused_with_a_word_on_making_it_again(bundle: Path) -> None:
    edit(bundle, format=1)
    with pytest.raises(bundle_format.OldFormat) as caught:
        bundle_format.read(bundle)
    assert "format 1" in caught.value.mistakes[0].what
    assert "make it again" in caught.value.mistakes[0].do


def test_size_counts_what_the_server_reads(bundle: Path) -> None:
    read = sum((bundle / name).stat().st_size for name in ("model.onnx", "tokenizer.json")) / 1e6
    assert bundle_format.size_mb(bundle) == pytest.approx(read)
    (bundle / "merged").mkdir()
    (bundle / "merged" / "model.safetensors").write_bytes(b"0" * 1000)
    (bundle / "model.onnx.data").write_bytes(b"0" * 1000)
    assert bundle_format.size_mb(bundle) == pytest.approx(read + 0.001)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"settings": []}, "settings"),
        ({"cleaning": None}, "cleaning"),
        ({"runtime": "magic"}, "runtime"),
        ({"surprise": 1}, "surprise"),
        ({"files": {"../../etc/passwd": {"sha256": "0", "size": 1}}}, "outside the bundle"),
    ],
)
def test_a_wrong_manifest_says_where(bundle: Path, fields: dict[str, object], word: str) -> None:
    edit(bundle, **fields)
    assert word in reason(bundle)


@pytest.mark.parametrize(("name", "value"), [("labels", []), ("temperature", 0), ("threshold", 2), ("other", 1)])
def test_wrong_settings_are_found_by_the_codec(bundle: Path, name: str, value: object) -> None:
    settings = json.loads((bundle / "bundle.json").read_text())["settings"]
    edit(bundle, settings={**settings, name: value})
    with pytest.raises(DataError, match=name):
        Predictor.open(bundle, threads=1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_manifest_that_is_none(bundle: Path, content: bytes) -> None:
    (bundle / "bundle.json").write_bytes(content)
    assert "bundle.json" in reason(bundle)


def test_runtime_computes_a_padded_batch(bundle: Path) -> None:
    runtime = open_runtime(bundle, threads=1)
    tokens = np.array([[2, 1], [4, 4]])  # "card" and a word nobody knows; "refund" twice
    [logits] = runtime.run({"tokens": tokens, "mask": np.array([[1, 0], [1, 1]])})
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, [[40, 0, 0], [0, 0, 40]])


def test_runtime_refuses_what_is_no_model(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(DataError, match="ONNX Runtime cannot load"):
        open_runtime(bundle)


def test_predictor_keeps_the_order_of_requests(bundle: Path) -> None:
    predictor = Predictor.open(bundle, threads=1)
    texts = [f"{'very ' * (place % 7)}{standin.LABELS[place % 3]}" for place in range(100)]
    answers = predictor.answer_all([predictor.codec.Request(text=text) for text in texts], batch=8)
    assert [answer.best for answer in answers] == [standin.LABELS[place % 3] for place in range(100)]


def test_predictor_refuses_a_newer_task(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", task_version=99)
    with pytest.raises(DataError, match="version 99"):
        Predictor.open(bundle)
