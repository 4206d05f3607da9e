"""Training a model that writes: packing and fused steps change nothing, phases resume exactly, folders are readable."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional

from llmops.core.errors import DataError
from llmops.nets import causal_fused
from llmops.nets.adapters import add_lora, merge_lora
from llmops.nets.causal import CausalReader, fresh_llama
from llmops.nets.kernels import kernels
from llmops.tasks.text_generation import TextGeneration
from llmops.tasks.text_generation.config import GenerationTrainSection, TextGenerationSection
from llmops.tasks.text_generation.learner import GenerationLearner
from llmops.tasks.text_generation.packing import (
    Encoded,
    cells,
    first_lengths,
    lay,
    packed_steps,
    plan_windows,
    rectangles,
    windows,
)
from llmops.tasks.text_generation.windows import windows as scored_windows
from tests.rooms import FakeRoom

ROOT = Path(__file__).parent.parent
LETTERS = "abcdefghijklmnopqrstuvwxyz .?"
SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
CONTEXT = 32


def token(letter: str) -> int:
    return len(SPECIAL) + LETTERS.index(letter)


def said(text: str) -> list[int]:
    return [token(letter) for letter in text]


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models

    made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*SPECIAL, *LETTERS])}, merges=[]))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(SPECIAL)
    return made


Rows = list[tuple[list[int], list[int]]]
"""Tokens and which of them are trained."""


def exchange(question: str, answer: str) -> tuple[list[int], list[int]]:
    head = [2, *said(question), 3]
    tail = [*said(answer), 1]
    return head + tail, [0] * len(head) + [1] * len(tail)


def write_dataset(folder: Path, objective: str, splits: dict[str, Rows], documents: dict[str, list[int]]) -> Path:
    """A data set as prepare writes it."""
    folder.mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    if objective != "language-model":
        template = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
        (folder / "chat_template.jinja").write_text(template)
    for name, rows in splits.items():
        lengths = [len(tokens) for tokens, _ in rows]
        arrays = {
            "tokens": np.array([t for tokens, _ in rows for t in tokens], np.int32),
            "trained": np.array([t for _, trained in rows for t in trained], np.uint8),
            "offsets": np.cumsum([0, *lengths]).astype(np.int64),
            "documents": np.array(documents.get(name, range(len(rows))), np.int64),
            "labels": np.zeros(len(rows), np.int64),
        }
        save_file(arrays, folder / f"{name}.safetensors")
    facts = {
        "objective": objective,
        "vocabulary": len(SPECIAL) + len(LETTERS),
        "end_token": 1,
        "end_tokens": [1],
        "pad_token": 0,
        "begin_token": None,
        "special_tokens": {"eos_token": "<|end|>", "pad_token": "<|pad|>"},
        "context": CONTEXT,
        "bytes_per_token": dict.fromkeys(splits, 1.0),
    }
    (folder / "generation.json").write_text(json.dumps(facts))
    return folder


COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "rose": "red", "lemon": "yellow"}


def documents_at(folder: Path) -> Path:
    sentences = [f"the {thing} is {colour}. " for thing, colour in COLOURS.items()]
    parts = [said("".join(sentences[i:] + sentences[:i])) for i in range(6)]
    rows: Rows = [(part, [int(i % 2 == 1)] + [1] * (len(part) - 1)) for i, part in enumerate(parts)]
    return write_dataset(
        folder, "language-model", {"train": rows, "valid": rows[:2]}, {"train": [0, 0, 1, 1, 2, 2], "valid": [0, 0]}
    )


def instructions_at(folder: Path) -> Path:
    rows = [exchange(f"{thing}?", f"the {thing} is {colour}.") for thing, colour in COLOURS.items()]
    rows += [exchange(f"what is the {thing}?", colour) for thing, colour in COLOURS.items()]
    return write_dataset(folder, "instructions", {"train": rows, "valid": rows[::3], "test": rows[:2]}, {})


def preferences_at(folder: Path) -> Path:
    pairs: Rows = []
    for thing, colour in COLOURS.items():
        pairs += [exchange(f"{thing}?", f"{colour} please"), exchange(f"{thing}?", colour)]
    return write_dataset(folder, "preferences", {"train": pairs, "valid": pairs[:6], "test": pairs[6:]}, {})


DATASETS = {"language-model": documents_at, "instructions": instructions_at, "preferences": preferences_at}


def learner(objective: str, **changes: Any) -> GenerationLearner:
    shape = {"width": 32, "layers": 2, "heads": 2, "batch_size": 2, "epochs": 3, "learning_rate": 3e-3}
    train = GenerationTrainSection.model_validate({**shape, "checkpoint_every_s": 0, **changes})
    section = TextGenerationSection.model_validate({"objective": objective, "context": CONTEXT})
    return GenerationLearner(section, train, seed=3)


def trained(folder: Path, objective: str, **changes: Any) -> tuple[GenerationLearner, dict[str, Any], Path]:
    dataset = folder / "dataset"
    if not dataset.exists():
        DATASETS[objective](dataset)
    made = learner(objective, **changes)
    room = FakeRoom(folder)
    return made, made.train(dataset, room.work, room), dataset


def weights(made: GenerationLearner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.trained().state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def llama() -> Any:
    """Heads are 16 wide, as the kernels want them."""
    torch.manual_seed(1)
    return fresh_llama(50, 64, 2, 4, None, 256, [1], 0, None)


def random_rows(lengths: list[int], vocabulary: int = 50) -> Encoded:
    chance = np.random.Generator(np.random.PCG64(5))
    total = sum(lengths)
    offsets = np.cumsum([0, *lengths])
    return Encoded(
        chance.integers(2, vocabulary, total).astype(np.int32),
        chance.random(total) < 0.6,
        offsets,
        np.arange(len(lengths)),
    )


def plain_loss(network: Any, data: Encoded, row: int) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy of one row, alone, through transformers' own forward; and how many tokens count."""
    start, end = data.offsets[row : row + 2]
    tokens = torch.from_numpy(data.tokens[start:end].astype(np.int64))
    logits = network(input_ids=tokens[None, :-1]).logits[0]
    counted = torch.from_numpy(data.trained[start + 1 : end])
    return functional.cross_entropy(logits[counted], tokens[1:][counted], reduction="sum"), int(counted.sum())


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


LENGTHS = [5, 40, 41, 39, 12, 200, 12, 7, 3, 90, 33, 2, 150]


@pytest.fixture(params=["kernels", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled kernels, or transformers' own forward as on a machine without a compiler."""
    if request.param == "kernels" and kernels() is None:
        pytest.skip("this machine has no C compiler")
    if request.param == "torch":
        monkeypatch.setattr(causal_fused, "kernels", lambda: None)
    return str(request.param)


def test_each_row_has_the_loss_packed_that_it_has_alone(way: str) -> None:
    network, data = llama().eval(), random_rows(LENGTHS)
    laid = lay(data, windows(data.rows(), 256))
    assert 2 <= len(laid.shapes) < len(LENGTHS), "rows must lie side by side"
    reader = CausalReader(network)
    assert (reader.llama is None) == (way == "torch")
    logp, _ = reader.log_probabilities(laid.shapes, *tensors(laid.tokens, laid.places, laid.targets))
    for row in range(len(LENGTHS)):
        alone, counted = plain_loss(network, data, row)
        mine = logp[torch.from_numpy(laid.owners == row)]
        assert len(mine) == counted
        assert -mine.sum().item() == pytest.approx(alone.item(), rel=1e-5, abs=1e-5)


def test_another_models_rows_are_packed_without_seeing_each_other_too() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    network = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=256, n_embd=32, n_layer=2, n_head=2)).eval()
    data = random_rows(LENGTHS)
    laid = lay(data, windows(data.rows(), 256))
    reader = CausalReader(network)
    assert reader.llama is None
    logp, _ = reader.log_probabilities(laid.shapes, *tensors(laid.tokens, laid.places, laid.targets))
    for row in (1, 4, 5, 8):
        alone, _ = plain_loss(network, data, row)
        mine = logp[torch.from_numpy(laid.owners == row)]
        assert -mine.sum().item() == pytest.approx(alone.item(), rel=1e-5, abs=1e-5)


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    near = [float((value - other[name]).abs().max() / (1e-6 + value.abs().max())) for name, value in one.items()]
    return one.keys() == other.keys() and max(near) < 1e-4


@pytest.mark.parametrize("shared", [False, True])
def test_the_steps_are_transformers_own_in_loss_and_gradient(shared: bool, way: str) -> None:
    if shared:  # heads that share keys and values, untied embeddings
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(4)
        shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
        network: Any = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **shape))
    else:
        network = llama()
    data = random_rows(LENGTHS)
    losses, counts = zip(*(plain_loss(network, data, row) for row in range(len(LENGTHS))), strict=True)
    plain = sum(losses) / sum(counts)
    plain.backward()
    wanted = gradients(network)
    network.zero_grad()
    laid = lay(data, windows(data.rows(), 256))
    loss = CausalReader(network).mean_loss(laid.shapes, *tensors(laid.tokens, laid.places, laid.targets))
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    assert close(wanted, gradients(network))


def test_a_machine_without_a_compiler_or_with_a_broken_one_trains_in_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    for places in (str(tmp_path), str(broken.parent)):
        monkeypatch.setenv("PATH", places)
        assert kernels.__wrapped__() is None
    monkeypatch.undo()
    monkeypatch.setenv("LLMOPS_KERNELS", "0")
    assert kernels.__wrapped__() is None


def test_loss_in_chunks_is_the_loss_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.nets import causal_functions

    states, weight = torch.randn(37, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(0, 11, (37,))
    wanted = torch.autograd.grad(functional.cross_entropy(states @ weight.t(), targets), [states, weight])
    monkeypatch.setattr(causal_functions, "CHUNK", 55)
    loss = causal_functions.MeanCrossEntropy.apply(states, weight, targets)
    found = torch.autograd.grad(loss, [states, weight])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(wanted, found, strict=True))
    assert torch.allclose(loss, functional.cross_entropy(states @ weight.t(), targets), atol=1e-6)


def test_dropout_is_for_training_only(way: str) -> None:
    network, data = llama(), random_rows([20, 20])
    laid = lay(data, windows(data.rows(), 256))
    arrays = tensors(laid.tokens, laid.places, laid.targets)
    reader = CausalReader(network, dropout=0.3)
    first, second = (reader.mean_loss(laid.shapes, *arrays).item() for _ in range(2))
    assert first != second
    assert CausalReader(network, dropout=0.3).llama is reader.llama
    network.eval()
    plain = CausalReader(network).mean_loss(laid.shapes, *arrays)
    assert reader.mean_loss(laid.shapes, *arrays).item() == plain.item()


def test_every_token_is_predicted_once_and_the_cuts_move() -> None:
    spans = np.array([[0, 100], [100, 101], [101, 133], [133, 300]])
    seen = []
    for epoch in (1, 2):
        cut = windows(spans, 32, first_lengths(spans, 32, 7, epoch))
        predicted = np.concatenate([np.arange(start + 1, start + length + 1) for start, length in cut])
        wanted = np.concatenate([np.arange(start + 1, end) for start, end in spans])
        assert sorted(predicted) == sorted(wanted)
        assert cut[:, 1].max() <= 32
        for start, length in cut:
            assert any(a <= start and start + length < b for a, b in spans), "no window crosses into another text"
        seen.append({tuple(window) for window in cut})
    assert seen[0] != seen[1]


def test_steps_are_full_and_padding_is_rare() -> None:
    chance = np.random.Generator(np.random.PCG64(3))
    lengths = chance.integers(4, 64, 500)
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], 1)
    cut = windows(spans, 64)
    steps = packed_steps(spans, 64, 8)
    plan = plan_windows(cut, steps, 1, 1, by_tokens=True)
    assert len(plan) == steps
    assert sorted(np.concatenate(plan)[:, 0]) == sorted(cut[:, 0])
    assert all(abs(batch[:, 1].sum() - 8 * 64) <= 128 for batch in plan)
    tokens = sum(int(rows[:, 1].sum()) for rows in plan)
    assert 1 - tokens / sum(map(cells, plan)) < 0.1
    assert [slice(0, 3), slice(3, 4)] == rectangles(np.array([100, 95, 88, 40]))


def test_windows_are_those_that_candidates_are_scored_on(tmp_path: Path) -> None:
    for objective, write in DATASETS.items():
        dataset = write(tmp_path / objective)
        made = learner(objective)
        made.adopt(dataset)
        data = Encoded.read(dataset, "train")
        theirs = scored_windows(dataset, "train")
        mine = windows(made.reading().spans(data), CONTEXT)
        assert [len(window.tokens) - 1 for window in theirs] == mine[:, 1].tolist()
        made.network = made.fresh().eval()
        if objective == "preferences":
            made.refer(made.network, dataset)
        answers = made.predict(dataset, "train")
        logp = []
        for window in theirs:
            logits = made.network(input_ids=torch.from_numpy(window.tokens)[None]).logits[0].log_softmax(-1)
            logp.append(logits[window.counted - 1, window.targets].detach().numpy())
        assert np.allclose(np.concatenate(logp), answers["logp"], atol=1e-4)


def test_a_model_is_read_by_transformers_and_says_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made, result, dataset = trained(tmp_path, "instructions", epochs=2, dropout=0.1)
    assert result["tokens_per_s"] > 0 and result["padding"] < 0.5
    assert {"loss", "perplexity", "bits_per_byte", "token_accuracy"} <= result["metrics"].keys()
    assert "train_loss" in result["history"][0]
    made.save(tmp_path / "model")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokens = torch.tensor([[2, *said("sky?"), 3]])
    assert torch.equal(network(tokens).logits, made.trained()(tokens).logits)
    assert network.generation_config.eos_token_id == 1
    read = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert read.eos_token == "<|end|>" and read.chat_template
    assert read("sky?").input_ids == said("sky?")
    again = learner("instructions")
    again.load(tmp_path / "model")
    for name, value in made.predict(dataset, "test").items():
        assert np.array_equal(value, again.predict(dataset, "test")[name])
    with pytest.raises(DataError, match="cannot be read"):
        again.load(tmp_path / "nothing")


def test_it_learns_instructions_and_writes_them(tmp_path: Path) -> None:
    made, result, _ = trained(tmp_path, "instructions", steps=150, learning_rate=1e-2, schedule="cosine")
    assert result["metrics"]["loss"] < 0.1
    tokens, best = made.write([2, *said("sky?"), 3], 30, {1})
    assert tokens == said("the sky is blue.")
    assert len(best) == len(tokens) + 1 and all(first >= second for first, second in best)
    drawn = [made.write([2, *said("sky?"), 3], 10, {1}, temperature=5.0, seed=seed)[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_pretraining_comes_first_and_takes_every_token(tmp_path: Path) -> None:
    made, result, _ = trained(tmp_path, "instructions", pretrain_epochs=2, epochs=1)
    assert len(result["pretrain"]) == 2 and len(result["history"]) == 1
    assert (tmp_path / "work" / "pretrain" / "checkpoints").is_dir()
    other, _, _ = trained(tmp_path / "without", "instructions", epochs=1)
    assert not equal(weights(made), weights(other))


def test_pretraining_is_not_for_weights_that_are_spread() -> None:
    made = learner("instructions", pretrain_epochs=2, shard=True)
    (mistake,) = TextGeneration().check(made.section, made.settings)
    assert mistake.where == "train.pretrain_epochs" and "shard" in mistake.what


def test_lora_merges_into_the_same_answers(way: str) -> None:
    network = add_lora(llama(), 4, 8.0, 0.0)
    for name, value in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    network.eval()
    data = random_rows([20, 110, 20])
    laid = lay(data, windows(data.rows(), 256))
    arrays = tensors(laid.tokens, laid.places, laid.targets)
    reader = CausalReader(network)
    fused = reader.mean_loss(laid.shapes, *arrays)
    fused.backward()
    assert all("lora" in name for name in gradients(network))
    tokens = torch.from_numpy(data.tokens[:20].astype(np.int64))[None]
    before = network(input_ids=tokens).logits
    merged = merge_lora(network)
    assert torch.allclose(before, merged(input_ids=tokens).logits, atol=1e-5)
    assert CausalReader(merged).mean_loss(laid.shapes, *arrays).item() == pytest.approx(fused.item(), abs=1e-5)


def base_model(folder: Path, objective: str = "instructions") -> Path:
    """A model folder that a next training starts from."""
    made, _, _ = trained(folder / "base", objective, epochs=2)
    made.save(folder / "model")
    return folder / "model"


def test_a_trained_model_is_tuned_further_with_adapters(tmp_path: Path) -> None:
    base = base_model(tmp_path)
    made, result, _ = trained(
        tmp_path / "next", "instructions", model=str(base), method="lora", epochs=4, learning_rate=1e-2
    )
    first = learner("instructions")
    first.load(base)
    assert result["metrics"]["loss"] < -first.predict(tmp_path / "next" / "dataset", "valid")["logp"].mean()
    assert type(made.trained()).__name__ == "LlamaForCausalLM"
    assert result["parameters"] == first.parameters()


def test_preferences_are_learnt_and_the_reference_is_kept(tmp_path: Path) -> None:
    base = base_model(tmp_path)
    made, result, dataset = trained(tmp_path / "next", "preferences", model=str(base), epochs=12, learning_rate=3e-3)
    assert result["metrics"]["reward_accuracy"] == 1.0
    assert result["metrics"]["margin"] > 0
    made.save(tmp_path / "tuned")
    again = learner("preferences")
    again.load(tmp_path / "tuned")
    answers = again.predict(dataset, "test")
    assert answers["reference_logp"].shape == (6,) and float(answers["beta"]) == pytest.approx(0.1)
    first = learner("preferences")
    first.adopt(dataset)
    first.network = again.trained()
    with pytest.raises(DataError, match="before its training"):
        first.predict(dataset, "test")


def test_the_dpo_loss_begins_at_the_logarithm_of_two(tmp_path: Path) -> None:
    dataset = preferences_at(tmp_path / "dataset")
    made = learner("preferences")
    made.adopt(dataset)
    problem = made.pose(made.fresh(), dataset)
    loss = problem.loss(problem.collate(np.arange(4)))
    assert loss.item() == pytest.approx(np.log(2), abs=1e-5)


def test_the_chosen_answers_own_loss_stands_beside(tmp_path: Path) -> None:
    dataset = preferences_at(tmp_path / "dataset")
    made = learner("preferences", chosen_weight=0.5)
    made.adopt(dataset)
    network = made.fresh()
    problem = made.pose(network, dataset)
    data = Encoded.read(dataset, "train")
    network.eval()
    sums = [plain_loss(network, data, row) for row in (0, 2, 4, 6)]
    each = float(np.mean([total.item() / counted for total, counted in sums]))
    loss = problem.loss(problem.collate(np.arange(4)))
    assert loss.item() == pytest.approx(np.log(2) + 0.5 * each, abs=1e-4)


def test_a_probe_foresees_and_is_left_as_if_trained(tmp_path: Path) -> None:
    dataset = instructions_at(tmp_path / "dataset")
    made = learner("instructions", pretrain_epochs=1)
    found = made.probe(dataset, 0.1, FakeRoom(tmp_path))
    assert found["train_s_upper"] > found["train_s"] > 0 and found["tokens_per_s"] > 0
    assert found["parameters"] == made.parameters()


KILLED = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.killer import arm
from tests.test_generation_training import trained, weights
folder, objective, at, when, model, phase = sys.argv[1:7]
if int(at):
    arm(int(at), when)
made, _, _ = trained(Path(folder), objective, model=model, pretrain_epochs=int(phase))
save_file(weights(made), Path(folder) / "final.safetensors")
"""


def run_killed(folder: Path, objective: str, at: int, when: str, model: str, phase: int) -> int:
    arguments = [sys.executable, "-c", KILLED, str(folder), objective, str(at), when, model, str(phase)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, timeout=300, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize(
    ("objective", "at", "when", "phase"),
    [("language-model", 24, "after", 0), ("instructions", 90, "before", 2), ("preferences", 31, "before", 0)],
)
def test_kill_9_changes_no_bit(tmp_path: Path, objective: str, at: int, when: str, phase: int) -> None:
    from safetensors.torch import load_file

    model = str(base_model(tmp_path)) if objective == "preferences" else "llama"
    folder = tmp_path / "killed"
    DATASETS[objective](folder / "dataset")
    whole, _, _ = trained(tmp_path / "whole", objective, model=model, pretrain_epochs=phase)
    assert run_killed(folder, objective, at, when, model, phase) == -signal.SIGKILL
    assert list((folder / "work").rglob("step-*.json")), "it must have died within the training"
    assert run_killed(folder, objective, 0, when, model, phase) == 0
    assert equal(load_file(folder / "final.safetensors"), weights(whole))
