"""The stepper: a cache with slots computes what transformers computes, whatever mix of conversations it steps."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import transformers
from numpy.typing import NDArray

from llmops.bundle import stepper as stepper_module
from llmops.bundle.runtimes import open_runtime
from llmops.bundle.sampling import Sampler
from llmops.bundle.stepper import OnnxStepper
from llmops.core.errors import DataError
from llmops.nets.export_causal import export_causal
from llmops.stages.compress.quantise import quantise_weights

VOCABULARY, CONTEXT = 97, 48
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 40, "n_layer": 2, "n_positions": CONTEXT, "initializer_range": 0.3}
KINDS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "llama tied": lambda: transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "llama biases": lambda: transformers.LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True),
    "llama far positions": lambda: transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3),
    "llama narrow heads": lambda: transformers.LlamaConfig(**{**LLAMA, "hidden_size": 40}),
    "llama wide heads": lambda: transformers.LlamaConfig(**LLAMA, head_dim=24),
    "mistral window": lambda: transformers.MistralConfig(**LLAMA, sliding_window=9),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA),
    "qwen2 window": lambda: transformers.Qwen2Config(
        **LLAMA, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA, head_dim=16),
    "qwen3 narrow heads": lambda: transformers.Qwen3Config(**LLAMA, head_dim=12),
    "gpt2": lambda: transformers.GPT2Config(**GPT2, n_head=2),
    "gpt2 narrow heads": lambda: transformers.GPT2Config(**GPT2, n_head=8),
}


def made(folder: Path, config: Any) -> Any:
    """A network with random weights, none of them at a neutral value, saved in `folder`."""
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
            elif "norm" in name or "ln_" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    network.save_pretrained(folder)
    return network


def right(network: Any, tokens: list[int]) -> NDArray[np.float32]:
    """transformers' logits after every token."""
    with torch.no_grad():
        logits: NDArray[np.float32] = network(torch.tensor([tokens])).logits[0].numpy()
    return logits


def text(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=length)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    transformers.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, dict[str, Any]]:
    """A tied network, the folder of its export, and the settings."""
    folder = tmp_path_factory.mktemp("llama")
    network = made(folder / "model", KINDS["llama tied"]())
    return network, folder / "out", export_causal(folder / "model", folder / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_transformers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = made(tmp_path / "model", KINDS[kind]())
    settings = export_causal(tmp_path / "model", tmp_path / "out")
    stepper = OnnxStepper(tmp_path / "out", settings, threads=1)
    tokens = text(0, CONTEXT)
    wanted = right(network, tokens)
    np.testing.assert_allclose(stepper.score(tokens), wanted, atol=1e-4)
    monkeypatch.setattr(stepper_module, "PIECE", 10)  # read in pieces
    np.testing.assert_allclose(stepper.score(tokens), wanted, atol=1e-4)
    np.testing.assert_allclose(stepper.prefill(3, tokens[:25]), wanted[24], atol=1e-4)
    steps = [stepper.step({3: token})[0] for token in tokens[25:]]
    np.testing.assert_allclose(steps, wanted[25:], atol=1e-4)


def test_any_mix_of_slots(llama: tuple[Any, Path, dict[str, Any]]) -> None:
    """Many random operations; every row of logits is what `score` says of that slot's tokens."""
    network, out, settings = llama
    stepper = OnnxStepper(out, settings, threads=1, slots=5)
    chance = random.Random(2)
    held: dict[int, list[int]] = {}
    for turn in range(400):
        action = chance.random()
        if action < 0.2:
            slot = chance.randrange(5)
            held[slot] = text(turn, chance.randint(1, CONTEXT))
            got = stepper.prefill(slot, held[slot])
            np.testing.assert_allclose(got, stepper.score(held[slot])[-1], atol=1e-4)
        elif action < 0.3 and held:
            slot = chance.choice(list(held))
            stepper.free(slot)
            del held[slot]
        else:
            ready = [slot for slot in held if len(held[slot]) < CONTEXT]
            chosen = chance.sample(ready, chance.randint(0, len(ready)))
            tokens = {slot: chance.randrange(VOCABULARY) for slot in chosen}
            rows = stepper.step(tokens)
            assert rows.shape == (len(tokens), VOCABULARY)
            for row, (slot, token) in zip(rows, tokens.items(), strict=True):
                held[slot].append(token)
                np.testing.assert_allclose(row, right(network, held[slot])[-1], atol=1e-4)
        assert [stepper.length(slot) for slot in range(5)] == [len(held.get(slot, [])) for slot in range(5)]


def test_slots_are_apart(llama: tuple[Any, Path, dict[str, Any]]) -> None:
    """What others hold, and what a slot held before, changes no bit of an answer."""
    _, out, settings = llama

    def answer(others: int) -> NDArray[np.float32]:
        stepper = OnnxStepper(out, settings, threads=1, slots=3)
        for slot in range(3):
            stepper.prefill(slot, text(others, 40))
        stepper.prefill(1, text(1, 8))
        for slot in (0, 2):
            stepper.prefill(slot, text(others + 1, 5))
        rows = [stepper.step({0: others, 1: token, 2: others})[1] for token in text(2, 10)]
        return np.array(rows)

    np.testing.assert_array_equal(answer(7), answer(11))


def test_the_cache_is_written_in_place(llama: tuple[Any, Path, dict[str, Any]]) -> None:
    """One step writes one place of each layer's cache, and nothing but the rows that step."""
    _, out, settings = llama
    stepper = OnnxStepper(out, settings, threads=1, slots=3)
    for slot in range(3):
        stepper.prefill(slot, text(slot, 6))
    before = stepper._cache.copy()
    stepper.step({0: 5, 1: 6})
    changed = np.argwhere((stepper._cache != before).any(axis=(2, 4)))
    assert sorted(map(tuple, changed.tolist())) == [(layer, row, 6) for layer in range(4) for row in (0, 1)]


def test_wrong_use(llama: tuple[Any, Path, dict[str, Any]]) -> None:
    _, out, settings = llama
    stepper = OnnxStepper(out, settings, threads=1, slots=2)
    with pytest.raises(ValueError, match="cannot step"):
        stepper.step({0: 1})
    with pytest.raises(ValueError, match="1 to 48"):
        stepper.prefill(0, [])
    with pytest.raises(ValueError, match="1 to 48"):
        stepper.score(text(0, CONTEXT + 1))
    stepper.prefill(1, text(0, CONTEXT))
    with pytest.raises(ValueError, match="holds 48 of 48"):
        stepper.step({1: 1})
    with pytest.raises(DataError, match="does not say how"):
        OnnxStepper(out, {}, threads=1)
    assert open_runtime(out, 1, "stepper", settings, slots=4).slots == 4


@pytest.mark.parametrize(("bits", "error", "size"), [(8, 0.03, 0.35), (4, 0.3, 0.28)])
@pytest.mark.parametrize("tied", [True, False])
def test_fewer_bits(tied: bool, bits: int, error: float, size: float, tmp_path: Path) -> None:
    """Few bits: smaller, near the float32 logits, and an answer does not depend on its company."""
    wide = {**LLAMA, "hidden_size": 128, "intermediate_size": 352, "initializer_range": 0.1}
    network = made(tmp_path / "model", transformers.LlamaConfig(**wide, tie_word_embeddings=tied))
    settings = export_causal(tmp_path / "model", tmp_path / "out")
    target = tmp_path / "small"
    target.mkdir()
    quantise_weights(tmp_path / "out" / "model.onnx", target / "model.onnx", bits)
    assert (target / "model.onnx").stat().st_size < (tmp_path / "out" / "model.onnx").stat().st_size * size
    stepper = OnnxStepper(target, settings, threads=1, slots=2)
    tokens = text(3, 30)
    wanted, got = right(network, tokens), stepper.score(tokens)
    assert np.abs(got - wanted).mean() < error * wanted.std()
    alone = stepper.prefill(0, tokens)
    stepper.prefill(1, text(4, 12))
    together = stepper.step({1: 9, 0: 5})[1]
    stepper.prefill(0, tokens)
    np.testing.assert_allclose(stepper.step({0: 5})[0], together, atol=1e-4)
    np.testing.assert_allclose(alone, got[-1], atol=1e-4)


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "bloom", transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=2))
    with pytest.raises(DataError, match="type bloom; known: gpt2, llama"):
        export_causal(tmp_path / "bloom", tmp_path / "out")
    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    made(tmp_path / "dynamic", transformers.LlamaConfig(**LLAMA, rope_parameters=rope))
    with pytest.raises(DataError, match="positions of type dynamic"):
        export_causal(tmp_path / "dynamic", tmp_path / "out")


def test_a_shorter_context(tmp_path: Path) -> None:
    network = made(tmp_path / "model", KINDS["llama"]())
    settings = export_causal(tmp_path / "model", tmp_path / "out", context=20)
    assert settings["context"] == 20
    tokens = text(5, 20)
    got = OnnxStepper(tmp_path / "out", settings, threads=1).score(tokens)
    np.testing.assert_allclose(got, right(network, tokens), atol=1e-4)


def test_large_weights_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops.nets.onnxgraph.LARGE", 1000)
    network = made(tmp_path / "model", KINDS["llama tied"]())
    for _ in range(2):  # a second export starts afresh
        settings = export_causal(tmp_path / "model", tmp_path / "out")
    out, small = tmp_path / "out", tmp_path / "small"
    small.mkdir()
    quantise_weights(out / "model.onnx", small / "model.onnx", 8)
    for folder, error in ((out, 1e-4), (small, 1.0)):
        assert (folder / "model.onnx.data").stat().st_size > (folder / "model.onnx").stat().st_size
        got = OnnxStepper(folder, settings, threads=1).score(text(6, 9))
        np.testing.assert_allclose(got, right(network, text(6, 9)), atol=error)


def test_memory_does_not_grow(llama: tuple[Any, Path, dict[str, Any]]) -> None:
    _, out, settings = llama
    stepper = OnnxStepper(out, settings, threads=1)
    chance = random.Random(8)
    process = psutil.Process()

    def work(turns: int) -> int:
        for _ in range(turns):
            slots = chance.sample(range(8), chance.randint(1, 8))
            for slot in slots:
                stepper.prefill(slot, text(chance.randrange(99), chance.randint(1, CONTEXT - 4)))
            for _ in range(4):
                stepper.step(dict.fromkeys(slots, chance.randrange(VOCABULARY)))
            for slot in slots:
                stepper.free(slot)
        return int(process.memory_info().rss)

    before = work(100)
    assert work(300) < before + 4e6


def test_sampling() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.4, 0.1], np.float32))
    assert Sampler(0, 1, None).choose(logits) == 1  # the smaller id of equals
    drawn = [Sampler(1, 1, seed).choose(logits) for seed in range(2000)]
    np.testing.assert_allclose(np.bincount(drawn) / 2000, [0.1, 0.4, 0.4, 0.1], atol=0.04)
    one, same = Sampler(0.7, 0.9, 5), Sampler(0.7, 0.9, 5)
    assert [one.choose(logits) for _ in range(50)] == [same.choose(logits) for _ in range(50)]
    assert {Sampler(1, 0.8, seed).choose(logits) for seed in range(200)} == {1, 2}
    cold = [Sampler(0.1, 1, seed).choose(logits) for seed in range(200)]
    assert set(cold) == {1, 2}
