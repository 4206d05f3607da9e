"""Text classification: tokenizer and encoder, metrics, calibration, and the learner with every kind of model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from llmops.core.errors import ConfigError, DataError
from llmops.engine.ragged import Ragged
from llmops.nets.pruning import importance, layers_of
from llmops.nets.tokenizer import pretrained_tokenizer
from llmops.tasks import find
from llmops.tasks.confusion import confused_pairs, confusion
from llmops.tasks.text_classification.calibration import (
    fit_temperature,
    negative_log_likelihood,
    softmax,
)
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.encoder import TextEncoder
from llmops.tasks.text_classification.learner import TextClassifier
from llmops.tasks.text_classification.metrics import scores
from llmops.tasks.text_classification.students import losses
from llmops.tasks.text_classification.tokenizer import train_tokenizer
from tests.rooms import FORESEEN, FakeRoom
from tests.words import TASK, dataset, rows, settings, tiny_bert


def test_find_knows_the_task_and_guesses_what_was_meant() -> None:
    assert find("text-classification").name == "text-classification"
    with pytest.raises(ConfigError) as told:
        find("text-clasification")
    assert "did you mean `text-classification`" in told.value.mistakes[0].do


def test_examples_come_from_rows_or_the_row_is_told_to_be_bad() -> None:
    task, section = find("text-classification"), TextClassificationSection(text="q", label="intent")
    assert task.example(section, {"q": " hi ", "intent": 3}) == {"text": "hi", "label": "3"}
    assert task.example(section, {"q": "hi"}) == "no column 'intent'"
    assert task.example(section, {"q": None, "intent": "a"}) == "empty text"
    assert "one label" in str(task.example(section, {"q": "hi", "intent": ["a", "b"]}))


def test_the_tokenizer_splits_chinese_and_is_the_same_each_time() -> None:
    texts = ["房间很干净,服务好", "房间太小 bad Service", "Service good 干净"] * 3
    tokenizer = train_tokenizer(texts, 200)
    assert tokenizer.encode("房间好").tokens == ["[CLS]", "房", "间", "好"]
    assert tokenizer.encode("SERVICE").tokens == tokenizer.encode("service").tokens == ["[CLS]", "service"]
    assert tokenizer.encode("").tokens == ["[CLS]"], "no text is empty"
    assert train_tokenizer(texts, 200).to_str() == tokenizer.to_str()


def test_a_pretrained_tokenizer_pads_and_cuts_nothing(tmp_path: Path) -> None:
    tokenizer = pretrained_tokenizer(tiny_bert(tmp_path))
    assert len(tokenizer.encode("blue ice").ids) == 3
    assert json.loads(tokenizer.to_str())["padding"] is None


def test_the_encoder_writes_what_the_contract_says(tmp_path: Path) -> None:
    task = TextClassificationSection(outside="oos", max_tokens=5)
    splits = {"train": rows(60, 1), "valid": rows(6, 2, outside=2), "test": rows(6, 3, outside=1)}
    told = TextEncoder(task, settings()).prepare(splits, tmp_path)
    assert json.loads((tmp_path / "labels.json").read_text()) == ["cold", "hot", "wood"]
    valid = Ragged.read(tmp_path / "valid.safetensors")
    assert valid.labels.tolist() == [0, 1, 2, 0, 1, 2, -1, -1]
    assert (valid.tokens.dtype, valid.offsets.dtype, valid.labels.dtype) == (np.int32, np.int64, np.int64)
    assert valid.lengths.max() <= 5
    assert told["cut"] == sum(len(row["text"].split()) > 4 for split in splits.values() for row in split)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is None


def test_the_encoder_refuses_one_class_and_unknown_labels(tmp_path: Path) -> None:
    one = [{"text": "a", "label": "x"}, {"text": "b", "label": "oos"}]
    with pytest.raises(DataError, match="two classes or more"):
        TextEncoder(TextClassificationSection(outside="oos"), settings()).prepare({"train": one, "valid": []}, tmp_path)
    splits = {"train": rows(9, 1), "valid": [{"text": "a", "label": "new"}]}
    with pytest.raises(DataError, match="labels that no training row has: new"):
        TextEncoder(TASK, settings()).prepare(splits, tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns(seed: int) -> None:
    from sklearn import metrics

    chance = np.random.Generator(np.random.PCG64(seed))
    truth = chance.integers(0, 4, 60)
    answers = np.where(chance.random(60) < 0.6, truth, chance.integers(0, 4, 60))
    found = scores(truth, answers, 6)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, answers))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(truth, answers, average="macro"))
    assert found["f1_weighted"] == pytest.approx(metrics.f1_score(truth, answers, average="weighted"))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, answers))


def test_rows_outside_every_class_do_not_count() -> None:
    truth, answers = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 1, 1, 1, 0, 1])
    assert scores(truth, answers, 2)["accuracy"] == 0.75
    assert confused_pairs(confusion(truth, answers, 2), ["a", "b"], 10) == [["a", "b", 1]]
    assert scores(truth[:0], answers[:0], 2)["accuracy"] == 0.0


def test_temperature_undoes_overconfidence() -> None:
    chance = np.random.Generator(np.random.PCG64(1))
    logits = chance.normal(size=(4000, 3))
    labels = np.array([chance.choice(3, p=p) for p in softmax(logits)])
    assert fit_temperature(logits * 4, labels) == pytest.approx(4, rel=0.1)
    best = fit_temperature(logits, labels)
    assert negative_log_likelihood(logits, labels, best) <= negative_log_likelihood(logits, labels, best * 1.1)
    assert fit_temperature(logits, np.full(4000, -1)) == 1.0


def trained(folder: Path, seed: int = 1, **changes: object) -> tuple[TextClassifier, Path, dict[str, object]]:
    section = settings(**changes)
    data = dataset(folder, section)
    room = FakeRoom(folder / "room")
    learner = TextClassifier(TASK, section, seed)
    return learner, data, learner.train(data, room.work, room)


@pytest.mark.parametrize("model", ["bag-of-words", "text-cnn", "bilstm", "transformer"])
def test_networks_from_scratch_learn_and_come_back_from_disk(tmp_path: Path, model: str) -> None:
    learner, data, told = trained(tmp_path, model=model, epochs=4, pooling="mean")
    assert told["metrics"]["accuracy"] > 0.9  # type: ignore[index]
    check_saved(learner, data, tmp_path / "model")


@pytest.mark.parametrize("method", ["full", "lora", "frozen"])
def test_pretrained_encoders_learn_and_come_back_from_disk(tmp_path: Path, method: str) -> None:
    bert = tiny_bert(tmp_path / "bert")
    learner, data, told = trained(tmp_path, model=str(bert), method=method, epochs=6)
    assert told["metrics"]["accuracy"] > 0.8  # type: ignore[index]
    check_saved(learner, data, tmp_path / "model")
    assert not any("lora" in name for name in learner.trained().state_dict())


def check_saved(learner: TextClassifier, data: Path, folder: Path) -> None:
    logits = learner.predict(data, "test")
    assert logits.shape == (24, 3)
    assert logits.dtype == np.float32
    learner.save(folder)
    again = TextClassifier(TASK, settings(), 9)
    again.load(folder)
    assert np.array_equal(again.predict(data, "test"), logits)
    assert again.settings == learner.settings


def test_the_whole_vocabulary_is_saved_and_untrained_rows_are_the_pretrained_ones(tmp_path: Path) -> None:
    from llmops.nets.encoder import load_encoder

    bert = tiny_bert(tmp_path / "bert")
    learner, data, _ = trained(tmp_path, model=str(bert), epochs=1)
    before = load_encoder(bert, 0.0).get_input_embeddings().weight
    after = learner.trained().encoder.get_input_embeddings().weight
    used = set(Ragged.read(data / "train.safetensors").tokens.tolist())
    changed = set((before != after).any(1).nonzero().flatten().tolist())
    assert changed <= used
    assert len(changed) > 10
    assert after.shape == before.shape


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    one, data, _ = trained(tmp_path / "a", precision="float32")  # `auto` is measured anew each time
    two, _, _ = trained(tmp_path / "b", precision="float32")
    three, _, _ = trained(tmp_path / "c", seed=2, precision="float32")
    assert np.array_equal(one.predict(data, "test"), two.predict(data, "test"))
    assert not np.array_equal(one.predict(data, "test"), three.predict(data, "test"))


def test_export_says_what_the_model_says(tmp_path: Path) -> None:

    learner, data, _ = trained(tmp_path, epochs=1)
    path, _ = learner.export(tmp_path / "onnx")
    tokens, mask = Ragged.read(data / "test.safetensors").padded(np.arange(24), 0)
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], {"tokens": tokens, "mask": mask})
    assert np.abs(logits - learner.predict(data, "test")).max() < 1e-4


def test_a_student_has_fewer_layers_and_learns_the_answers(tmp_path: Path) -> None:
    bert = tiny_bert(tmp_path / "bert")
    teacher, data, _ = trained(tmp_path, model=str(bert), epochs=6)
    section = SimpleNamespace(layers=2, epochs=6, temperature=2.0, hidden=1.0)
    room = FakeRoom(tmp_path / "student")
    student = teacher.distil(data, teacher.predict(data, "train"), section, room.work, room)
    assert student.parameters() < teacher.parameters()
    agreement = (student.predict(data, "test").argmax(1) == teacher.predict(data, "test").argmax(1)).mean()
    assert agreement > 0.8
    student.save(tmp_path / "small")
    again = TextClassifier(TASK, settings(), 1)
    again.load(tmp_path / "small")
    assert np.array_equal(again.predict(data, "test"), student.predict(data, "test"))


def test_heads_and_neurons_go_and_the_answers_recover(tmp_path: Path) -> None:
    teacher, data, _ = trained(tmp_path, model=str(tiny_bert(tmp_path / "bert")), epochs=6)
    before = teacher.predict(data, "test")
    section = SimpleNamespace(heads=0.5, neurons=0.5, weights=0.0, epochs=4, temperature=2.0)
    room = FakeRoom(tmp_path / "student")
    student = teacher.prune(data, teacher.predict(data, "train"), section, room.work, room)
    network: Any = student.trained()
    shapes = [layer.attention.self.query.weight.shape for layer in network.encoder.encoder.layer]
    full: Any = teacher.trained()
    whole = [layer.attention.self.query.weight.shape for layer in full.encoder.encoder.layer]
    assert sum(rows for rows, _ in shapes) == sum(rows for rows, _ in whole) // 2, "half of all heads are left"
    assert np.array_equal(teacher.predict(data, "test"), before), "the teacher stays as it was"
    assert (student.predict(data, "test").argmax(1) == before.argmax(1)).mean() > 0.8
    path, _ = student.export(tmp_path / "onnx")
    tokens, mask = Ragged.read(data / "test.safetensors").padded(np.arange(24), 0)
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], {"tokens": tokens, "mask": mask})
    assert np.abs(logits - student.predict(data, "test")).max() < 1e-4


def test_what_matters_least_goes_first(tmp_path: Path) -> None:
    teacher, data, _ = trained(tmp_path, model=str(tiny_bert(tmp_path / "bert")), epochs=2)
    network: Any = teacher.trained()
    layer = network.encoder.encoder.layer[0]
    with torch.no_grad():  # a neuron and a head that nobody hears
        layer.output.dense.weight[:, 3] = 0
        layer.intermediate.dense.weight[3] = 0
        layer.intermediate.dense.bias[3] = 0
        layer.attention.output.dense.weight[:, : layer.attention.self.attention_head_size] = 0
        layer.attention.self.value.weight[: layer.attention.self.attention_head_size] = 0
    layers = layers_of(network.encoder, network.encoder.config.num_attention_heads)
    train = Ragged.read(data / "train.safetensors")
    scores = importance(layers, losses(teacher, train), network)
    assert scores[0][1][3] == scores[0][1].min() == 0
    assert scores[0][0][0] == scores[0][0].min()
    assert all(weight.grad is None for weight in network.parameters())


def test_small_weights_become_nothing(tmp_path: Path) -> None:
    teacher, data, _ = trained(tmp_path, model=str(tiny_bert(tmp_path / "bert")), epochs=1)
    section = SimpleNamespace(heads=0.0, neurons=0.0, weights=0.3, epochs=1, temperature=2.0)
    room = FakeRoom(tmp_path / "student")
    student = teacher.prune(data, teacher.predict(data, "train"), section, room.work, room)
    weights = [one.weight for one in student.trained().modules() if isinstance(one, torch.nn.Linear)]
    assert all(float((weight == 0).float().mean()) == pytest.approx(0.3, abs=0.05) for weight in weights)


def test_fewer_tokens_say_the_same_and_spell_what_they_do_not_know(tmp_path: Path) -> None:
    teacher, data, _ = trained(tmp_path, model=str(tiny_bert(tmp_path / "bert")), epochs=2)
    small = teacher.trim(data, 10)
    tokenizer, whole = small.tokenizer(), teacher.tokenizer()
    assert tokenizer.get_vocab_size() < whole.get_vocab_size()
    assert small.pad() == tokenizer.token_to_id("[PAD]")
    for text in [row["text"] for row in rows(24, 1)]:
        ours, theirs = tokenizer.encode(text), whole.encode(text)
        assert ours.tokens == theirs.tokens, "what the rows hold stays"
        answers = [model.trained()(torch.tensor([ids])) for model, ids in ((small, ours.ids), (teacher, theirs.ids))]
        assert torch.equal(*answers)
    spelled = tokenizer.encode("firesnow", add_special_tokens=False)
    assert "[UNK]" not in spelled.tokens and max(spelled.ids) < tokenizer.get_vocab_size()


def test_a_network_without_layers_cannot_be_distilled(tmp_path: Path) -> None:
    teacher, data, _ = trained(tmp_path, epochs=1)
    room = FakeRoom(tmp_path / "student")
    section = SimpleNamespace(layers=1, epochs=1, temperature=2.0, hidden=0.0)
    with pytest.raises(DataError, match="no layers to leave out"):
        teacher.distil(data, teacher.predict(data, "train"), section, room.work, room)


@pytest.mark.parametrize("changes", [{}, {"model": "bert"}, {"model": "bert", "method": "frozen"}])
def test_a_probe_foresees_the_training(tmp_path: Path, changes: dict[str, str]) -> None:
    if changes.get("model") == "bert":
        changes = {**changes, "model": str(tiny_bert(tmp_path / "bert"))}
    room = FakeRoom(tmp_path / "probe")
    section = settings(**changes, epochs=3, checkpoint_every_s=60)
    told = TextClassifier(TASK, section, 1).probe(rows(300, 1), 0.4, room)
    assert set(told) == FORESEEN
    assert 3 * told["epoch_s"] < told["train_s"] < told["train_s_upper"]
    data = dataset(tmp_path, section, count=300)
    actual = TextClassifier(TASK, section, 1).train(data, room.work, room)
    assert told["parameters"] == actual["parameters"]
    # a machine at work varies; the bounds catch a wrong unit or a forgotten factor
    assert told["train_s"] / 6 < actual["seconds"] < told["train_s_upper"] * 4
    assert told["peak_memory_mb"] == pytest.approx(actual["peak_memory_mb"], rel=0.3)


def test_damaged_and_newer_models_are_told(tmp_path: Path) -> None:
    learner, _, _ = trained(tmp_path, epochs=1)
    learner.save(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(DataError, match="format 99"):
        learner.load(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps(about))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read"):
        learner.load(tmp_path / "model")


def test_a_method_for_pretrained_encoders_is_refused_from_scratch() -> None:
    with pytest.raises(ValueError, match="needs a pretrained encoder"):
        TextTrainSection(model="text-cnn", method="lora")


def test_the_task_loads_no_torch() -> None:
    code = "import sys; from llmops.tasks import find; find('text-classification'); import llmops.stages.train.stage\n"
    code += "import llmops.tasks.text_classification.encoder\n"
    code += "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
