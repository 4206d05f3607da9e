"""Several labels for one text: reading, metrics, thresholds, training, answers, proof; the loop's side stands in
test_several_labels_loop.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from llmops.bundle.predictor import Predictor
from llmops.core.errors import ConfigError, DataError
from llmops.core.protocols import Judged
from llmops.core.run import RunStore
from llmops.engine.ragged import Ragged
from llmops.fields.rows import Listed
from llmops.project import Project, open_project
from llmops.tasks import find
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection, UpdateSection
from llmops.tasks.text_classification.learner import TextClassifier
from llmops.tasks.text_classification.several import tables
from llmops.tasks.text_classification.several.assess import agreement, calibrate
from llmops.tasks.text_classification.several.baseline import baseline_figures, score_dataset
from llmops.tasks.text_classification.several.calibration import fit, probabilities, sigmoid
from llmops.tasks.text_classification.several.codec import LabelsCodec, LabelsRequest
from llmops.tasks.text_classification.several.encoder import multi_hot
from llmops.tasks.text_classification.several.intervals import intervals
from llmops.tasks.text_classification.several.learner import LabelsClassifier
from llmops.tasks.text_classification.several.metrics import counts, f1, figures
from llmops.tasks.text_classification.several.objective import LabelsObjective, divergence, positive_weights
from llmops.tasks.text_classification.several.reading import labels_of
from llmops.tasks.text_classification.several.rows import given_to, rows_of
from llmops.tasks.text_classification.several.score import score
from llmops.tasks.text_classification.several.thresholds import MOST, STIFFNESS, choose, log_odds, own_cut
from llmops.tasks.text_classification.several.update import LabelsHold
from llmops.tasks.text_classification.update import Before
from tests import tiny, tiny_labels, words
from tests.rooms import FakeRoom
from tests.test_loop import llmops

TASK = find("text-classification")
MANY = TextClassificationSection.model_validate({"labels": "many", "separator": ";"})
CPU = torch.device("cpu")
Array = np.ndarray[Any, Any]

# --- the config ------------------------------------------------------------------------------------------------------


def section(**changes: Any) -> TextClassificationSection:
    return TextClassificationSection.model_validate(changes)


def test_what_models_are_compared_by_follows_from_how_many_labels_there_are() -> None:
    assert section().metric == "accuracy"
    assert section(labels="many").metric == "f1_micro"
    assert section(labels="many", metric="f1_macro").metric == "f1_macro"
    assert (TASK.predicts(section()), TASK.predicts(MANY)) == ("class", "classes")
    assert TASK.columns(section(labels="many", label=["a", "b"])) == ("text", "a", "b")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"label": ["a", "b"]}, "labels: many"),
        ({"separator": ";"}, "`separator`"),
        ({"empty": "drop"}, "`empty`"),
        ({"metric": "f1_micro"}, "labels: one"),
        ({"labels": "many", "metric": "accuracy"}, "labels: many"),
        ({"labels": "many", "outside": "oos"}, "`outside`"),
        ({"labels": "many", "positive": "a"}, "`positive`"),
        ({"labels": "many", "abstain": {"coverage": 0.9}}, "`abstain`"),
        ({"labels": "many", "label": ["a"]}, "two columns"),
        ({"labels": "many", "label": ["a", "a"]}, "each once"),
        ({"labels": "many", "label": ["a", "b"], "separator": ";"}, "one column"),
        ({"labels": "many", "separator": ""}, "empty"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_words(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        section(**changes)


def test_a_gate_that_such_answers_cannot_pass_is_a_mistake_before_any_work(tmp_path: Path) -> None:
    config = tiny_labels.project(tmp_path)
    said = llmops("check", config, "--set", "need.accept.accuracy.at_least=0.5", code=3)
    assert "accuracy is no figure of what `task:` asks for" in said
    one = tiny.project(tmp_path / "one")
    said = llmops("check", one, "--set", "need.accept.subset_accuracy.at_least=0.5", code=3)
    assert "subset_accuracy is no figure" in said


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        ("b; a ;;b", ";", ["a", "b"]),
        ("card, urgent", None, ["card, urgent"]),
        ("card, urgent", ",", ["card", "urgent"]),
        ('["b", "a", "a", " "]', ",", ["a", "b"]),
        ('["b", "a"]', None, ["a", "b"]),
        (["b", " a ", None, ""], None, ["a", "b"]),
        (("b", 2, 3.0), None, ["2", "3", "b"]),
        ("[urgent", ",", ["[urgent"]),
        (7, None, ["7"]),
        ("", ";", []),
        (None, ";", []),
        (float("nan"), None, []),
        ([], None, []),
    ],
)
def test_a_cell_is_a_list_or_is_cut_at_the_separator(cell: Any, separator: str | None, labels: list[str]) -> None:
    found = TASK.example(section(labels="many", separator=separator), {"text": "x", "label": cell})
    assert found == {"text": "x", "label": labels}


@pytest.mark.parametrize("cell", [[["a"]], [{"a": 1}], {"a": 1}, '[["a"]]'])
def test_a_cell_of_other_things_is_a_bad_row(cell: Any) -> None:
    assert TASK.example(MANY, {"text": "x", "label": cell}) == "a label is no text, but a list or an object"


def test_columns_of_yes_and_no_name_the_labels() -> None:
    columns = section(labels="many", label=["card", "app", "fee"])
    row = {"text": "x", "card": 1, "app": "no", "fee": "1.0"}
    assert TASK.example(columns, row) == {"text": "x", "label": ["card", "fee"]}
    assert TASK.example(columns, {**row, "card": True, "fee": ""}) == {"text": "x", "label": ["card"]}
    assert TASK.example(columns, {**row, "card": "often"}) == "'card' is neither yes nor no"
    del row["app"]
    assert TASK.example(columns, row) == "no column 'app'"


def test_a_list_stays_a_bad_row_where_there_is_one_label() -> None:
    assert "more than one value" in str(TASK.example(section(), {"text": "x", "label": ["a", "b"]}))


def test_a_correction_becomes_a_row_with_its_labels() -> None:
    said = Judged("1", 1.0, 1, "[]", False, "http", None, '["b", "a"]', 2.0, {"text": "hello"}, {})
    row = TASK.harvested(MANY, said)
    assert row is not None
    assert (row["text"], row["label"], row["request_id"]) == ("hello", ["a", "b"], "1")


def test_a_list_from_a_server_of_several_labels_is_no_class() -> None:
    lists = {'["a"]': "a", '["a", "b"]': None, "[]": None, "[a": "[a"}
    for correction, label in lists.items():
        said = Judged("1", 1.0, 1, "a", False, "http", None, correction, 2.0, {"text": "hello"}, {})
        row = TASK.harvested(section(), said)
        assert (row and row["label"]) == label


# --- metrics ---------------------------------------------------------------------------------------------------------


@st.composite
def answers(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """(truth, given, scores) [rows, labels], with ties among the scores."""
    shape = draw(st.integers(1, 12)), draw(st.integers(2, 4))  # scikit-learn takes one column for two classes
    flags = arrays(bool, shape)
    return draw(flags), draw(flags), draw(arrays(float, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))


@settings(max_examples=200, deadline=None)
@given(answers())
def test_metrics_are_scikit_learns(drawn: tuple[Array, Array, Array]) -> None:
    from sklearn import metrics

    truth, given, scores = drawn
    found = figures(truth, given, scores)
    seen = np.flatnonzero(truth.any(0) | given.any(0))
    micro = metrics.f1_score(truth, given, average="micro", zero_division=0)
    assert found["f1_micro"] == pytest.approx(micro, abs=1e-9)
    macro = np.mean([metrics.f1_score(truth[:, at], given[:, at], zero_division=0) for at in seen]) if len(seen) else 0
    assert found["f1_macro"] == pytest.approx(macro, abs=1e-9)
    assert found["subset_accuracy"] == pytest.approx((truth == given).all(1).mean(), abs=1e-9)
    assert found["hamming_loss"] == pytest.approx(metrics.hamming_loss(truth, given), abs=1e-9)
    areas = [metrics.average_precision_score(truth[:, at], scores[:, at]) for at in np.flatnonzero(truth.any(0))]
    assert found["average_precision"] == pytest.approx(np.mean(areas) if areas else 0.0, abs=1e-9)


def test_intervals_hold_their_figure_are_narrower_with_more_rows_and_repeat() -> None:
    dice = np.random.default_rng(2)
    truth = dice.random((800, 4)) < 0.3
    scores = np.where(truth, 0.6, 0.4) + dice.normal(0, 0.2, truth.shape)
    given = scores > 0.5
    few, many = (intervals(truth[:rows], given[:rows], scores[:rows]) for rows in (50, 800))
    found = figures(truth, given, scores)
    for name, (low, high) in many.items():
        assert low < found[name] < high
        assert few[name][1] - few[name][0] > 2 * (high - low)
    assert intervals(truth, given, scores) == many


def test_a_few_of_all_draws_would_miss_the_truth() -> None:
    """Of samples from one population about one in twenty has an interval that the population's figure is not in."""
    dice = np.random.default_rng(3)
    truth = dice.random((20_000, 3)) < 0.3
    scores = np.where(truth, 0.6, 0.4) + dice.normal(0, 0.2, truth.shape)
    given = scores > 0.5
    whole, missed = figures(truth, given, scores), 0
    for _ in range(60):
        rows = dice.integers(0, len(truth), 150)
        low, high = intervals(truth[rows], given[rows], scores[rows])["f1_micro"]
        missed += not low < whole["f1_micro"] < high
    assert missed <= 9  # with 60 draws of one in twenty nearly always


# --- calibration and thresholds --------------------------------------------------------------------------------------


def drawn_logits(rows: int, rates: tuple[float, ...], seed: int = 4) -> tuple[Array, Array, Array]:
    """(logits, truth, true probabilities) of labels with these rates; the logits are twice too large, and shifted."""
    dice = np.random.default_rng(seed)
    odds = log_odds(np.array(rates)) + dice.normal(0, 2.0, (rows, len(rates)))
    chances = sigmoid(odds)
    return (2 * odds + 1).astype(np.float32), dice.random(odds.shape) < chances, chances


def test_calibration_finds_the_true_probabilities() -> None:
    logits, truth, chances = drawn_logits(4000, (0.5, 0.2, 0.05))
    slope, intercepts = fit(logits, truth)
    assert slope == pytest.approx(0.5, rel=0.1)
    assert intercepts == pytest.approx([-0.5] * 3, abs=0.25)
    assert np.abs(probabilities(logits, slope, intercepts) - chances).mean() < 0.02
    assert fit(logits[:0], truth[:0]) == (1.0, [0.0] * 3)


def test_a_label_of_few_rows_keeps_the_common_intercept() -> None:
    logits, truth, _ = drawn_logits(2000, (0.5, 0.5))
    own = np.concatenate([truth, np.zeros((2000, 1), bool)], 1)
    own[:4, 2] = True  # whatever its logits say
    _, intercepts = fit(np.concatenate([logits, logits[:, :1]], 1), own)
    assert intercepts[2] < intercepts[0]
    few = slice(0, 6)
    _, intercepts = fit(logits[few], truth[few])
    assert abs(intercepts[0] - intercepts[1]) < 1.5


def test_the_best_threshold_is_half_the_best_f1() -> None:
    """Lipton et al. 2014, on so many rows that chance hardly counts."""
    _, truth, chances = drawn_logits(60_000, (0.3,))
    [cut] = choose("f1_macro", chances, truth)
    best = float(f1(counts(truth, chances >= cut))[0])
    assert cut == pytest.approx(best / 2, abs=0.02)
    [half] = choose("subset_accuracy", chances, truth)
    assert half == pytest.approx(0.5, abs=0.03)


def test_thresholds_are_chosen_for_the_metric() -> None:
    logits, truth, chances = drawn_logits(3000, (0.5, 0.2, 0.03))
    cuts = {metric: choose(metric, chances, truth) for metric in ("f1_micro", "f1_macro", "subset_accuracy")}
    reached = {metric: figures(truth, chances >= cut, chances) for metric, cut in cuts.items()}
    for metric in cuts:
        assert reached[metric][metric] == max(found[metric] for found in reached.values())
    assert cuts["f1_macro"][2] < cuts["f1_micro"][2], "a rare label has a low F1, and half of that"
    assert len(logits) == 3000


def test_a_label_of_few_rows_is_drawn_to_the_common_threshold() -> None:
    _, truth, chances = drawn_logits(3000, (0.5, 0.3))
    rare = np.zeros(3000, bool)
    rare[np.flatnonzero(chances[:, 0] < 0.03)[:3]] = True  # by chance its only rows are unlikely ones
    chances, truth = np.stack([*chances.T, chances[:, 0]], 1), np.stack([*truth.T, rare], 1)
    cuts = choose("f1_macro", chances, truth)
    own = own_cut(chances[:, 2], truth[:, 2], None)
    assert own < 0.1
    trust = 3 / (3 + STIFFNESS)
    common = sigmoid((log_odds(cuts[2]) - trust * log_odds(own)) / (1 - trust))
    assert 0.3 < common < 0.5
    assert abs(cuts[2] - common) < abs(cuts[2] - own)
    nothing = np.zeros((len(truth), 1), bool)
    alone = choose("f1_macro", np.concatenate([chances, chances[:, :1]], 1), np.concatenate([truth, nothing], 1))
    assert alone[3] == pytest.approx(common, abs=0.03), "a label of no row has the common one"
    assert choose("f1_micro", chances[:0], truth[:0]).tolist() == [0.5] * 3


def test_a_label_that_does_not_pay_is_hardly_given() -> None:
    scores, truth = np.array([0.9, 0.8, 0.7, 0.1]), np.array([False, False, False, True])
    assert own_cut(scores, truth, 0.9) == MOST
    assert np.isnan(own_cut(scores, np.ones(4, bool), 0.9))


# --- training --------------------------------------------------------------------------------------------------------


def labelled(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of words of no, one or two topics of tests/words.py."""
    dice = np.random.default_rng(seed)
    made = []
    for index in range(count):
        topics = sorted(dice.choice(sorted(words.TOPICS), index % 3, replace=False).tolist())
        said = [word for topic in topics for word in dice.choice(words.TOPICS[topic].split(), 3)] or ["blank"]
        made.append({"id": f"{seed}-{index}", "text": " ".join(said), "label": topics})
    return made


def data_set(folder: Path, train: TextTrainSection, labels: set[str] | None = None) -> Path:
    """A prepared data set of such rows; of `labels` alone where they are given."""
    splits = {"train": labelled(90, 1), "valid": labelled(30, 2), "test": labelled(30, 3)}
    for row in [row for rows in splits.values() for row in rows]:
        row["label"] = [one for one in row["label"] if labels is None or one in labels]
    TASK.encoder(MANY, train).prepare({name: Listed(rows) for name, rows in splits.items()}, folder)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words.tiny_bert(tmp_path_factory.mktemp("bert"), layers=2)


def test_rows_lie_as_lines_of_noughts_and_ones(tmp_path: Path) -> None:
    data = data_set(tmp_path, words.settings())
    assert json.loads((data / "labels.json").read_text()) == ["cold", "hot", "wood"]
    read = Ragged.read(data / "valid.safetensors")
    assert (read.labels.dtype, read.labels.shape) == (np.uint8, (30, 3))
    assert (
        read.labels.tolist() == multi_hot([row["label"] for row in labelled(30, 2)], ["cold", "hot", "wood"]).tolist()
    )


@pytest.mark.parametrize(
    ("train", "valid", "word"),
    [
        ([[], []], [["a"]], "No training row has a label"),
        ([["a"], ["a"]], [["a"]], "the same labels"),
        ([["a"], []], [["a", "b"]], "labels that no training row has: b"),
    ],
)
def test_rows_that_teach_nothing_are_refused(
    tmp_path: Path, train: list[list[str]], valid: list[list[str]], word: str
) -> None:
    splits = {
        name: Listed([{"text": f"word {place}", "label": label} for place, label in enumerate(labels)])
        for name, labels in (("train", train), ("valid", valid), ("test", []))
    }
    with pytest.raises(DataError, match=word):
        TASK.encoder(MANY, words.settings()).prepare(splits, tmp_path)


def train(settings: TextTrainSection, data: Path, folder: Path) -> tuple[LabelsClassifier, dict[str, Any]]:
    learner = TASK.learner(MANY, settings, 1)
    assert isinstance(learner, LabelsClassifier)
    return learner, learner.train(data, folder / "work", FakeRoom(folder / "room"))


@pytest.mark.parametrize("model", ["bag-of-words", "text-cnn", "bilstm", "transformer"])
def test_networks_from_scratch_learn_several_labels(tmp_path: Path, model: str) -> None:
    settings = words.settings(model=model, epochs=12)
    learner, told = train(settings, data_set(tmp_path / "data", settings), tmp_path)
    assert told["metrics"]["f1_micro"] > 0.9
    assert learner.predict(tmp_path / "data", "test").shape == (30, 3)


@pytest.mark.parametrize("method", ["full", "lora", "frozen"])
def test_pretrained_encoders_learn_several_labels(tmp_path: Path, bert: Path, method: str) -> None:
    changes: dict[str, Any] = {"head_learning_rate": 0.1, "epochs": 40} if method == "frozen" else {"epochs": 8}
    settings = words.settings(model=str(bert), method=method, lora={"rank": 4}, **changes)
    learner, told = train(settings, data_set(tmp_path / "data", settings), tmp_path)
    assert told["metrics"]["f1_micro"] > (0.75 if method == "frozen" else 0.9)
    learner.save(tmp_path / "model")
    again = TASK.learner(MANY, settings, 1)
    again.load(tmp_path / "model")
    assert np.array_equal(learner.predict(tmp_path / "data", "test"), again.predict(tmp_path / "data", "test"))


def test_the_loss_is_a_question_for_each_label() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 1], [1, 0]], np.uint8)
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0], [1.0, 3.0], [-1.0, 0.0]])
    rows = np.array([0, 2, 3])
    plain = LabelsObjective(labels, words.settings(), CPU).loss(logits[rows], rows)
    chances = torch.sigmoid(logits[rows])
    truth = torch.tensor(labels[rows]).float()
    wanted = -(truth * chances.log() + (1 - truth) * (1 - chances).log()).mean()
    assert plain.item() == pytest.approx(wanted.item())
    smooth = LabelsObjective(labels, words.settings(label_smoothing=0.2), CPU).loss(logits[rows], rows)
    soft = truth * 0.8 + 0.1
    assert smooth.item() == pytest.approx(-(soft * chances.log() + (1 - soft) * (1 - chances).log()).mean().item())
    assert positive_weights(labels).tolist() == pytest.approx([1 / 3, 3.0])
    balanced = LabelsObjective(labels, words.settings(class_weights="balanced"), CPU).loss(logits[rows], rows)
    weighed = -(torch.tensor([1 / 3, 3.0]) * truth * chances.log() + (1 - truth) * (1 - chances).log()).mean()
    assert balanced.item() == pytest.approx(weighed.item())


def test_divergence_is_nothing_where_both_say_the_same_and_grows_apart() -> None:
    teacher = torch.tensor([[3.0, -3.0]])
    assert divergence(teacher, teacher, 2.0).abs().max().item() == pytest.approx(0.0, abs=1e-6)
    near, far = (divergence(teacher + shift, teacher, 2.0).sum().item() for shift in (0.5, 5.0))
    assert 0 < near < far


def test_a_student_learns_the_labels_of_its_teacher(tmp_path: Path, bert: Path) -> None:
    class Settings:
        layers, epochs, temperature, hidden = 1, 12, 2.0, 1.0

    settings = words.settings(model=str(bert), epochs=8)
    data = data_set(tmp_path / "data", settings)
    teacher, _ = train(settings, data, tmp_path)
    room = FakeRoom(tmp_path / "student")
    student = teacher.distil(data, teacher.predict(data, "train"), Settings, room.work, room)
    assert isinstance(student, LabelsClassifier)
    theirs, ours = (model.predict(data, "test") > 0 for model in (teacher, student))
    assert agreement(ours, theirs) > 0.9
    assert student.plan["kind"] == teacher.plan["kind"]


# --- updates ---------------------------------------------------------------------------------------------------------


def test_an_update_is_held_to_each_answer_that_was_right() -> None:
    class Network:
        head = torch.nn.Linear(2, 2)

    before = Before(Network(), ["cold", "wood"])  # type: ignore[arg-type]
    logits = np.array([[4.0, -4.0], [4.0, 4.0]], np.float32)
    truth = torch.tensor([[1, 0, 0], [1, 1, 0]], dtype=torch.uint8)  # wood is wrong of the second; hot is new
    hold = LabelsHold.to(UpdateSection(), before, ["cold", "hot", "wood"], logits, truth)
    assert hold.right.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    same = torch.tensor([[4.0, 9.0, -4.0], [4.0, -9.0, -7.0]])
    assert hold.loss(same, np.arange(2)).item() == pytest.approx(0.0, abs=1e-6)
    other = torch.tensor([[-4.0, 9.0, -4.0], [4.0, 9.0, -4.0]], requires_grad=True)
    lost = hold.loss(other, np.arange(2))
    lost.backward()
    assert lost.item() > 0.5
    assert other.grad is not None
    assert other.grad[0, 0] < 0
    assert (other.grad[:, 1:] == 0).all(), "what is new or was wrong is no matter of the champion's"
    assert abs(other.grad[1, 0]) < 1e-6


def test_an_update_starts_from_the_champion_and_learns_a_new_label(tmp_path: Path, bert: Path) -> None:
    settings = words.settings(model=str(bert), epochs=8)
    base, _ = train(settings, data_set(tmp_path / "two", settings, {"cold", "wood"}), tmp_path / "base")
    base.save(tmp_path / "model")
    three = data_set(tmp_path / "three", settings)
    learner = LabelsClassifier(MANY, words.settings(model=str(bert), epochs=16, update={"rate": 1.0}), 1)
    assert learner.begin_from(tmp_path / "model") == ""
    told = learner.train(three, tmp_path / "work", FakeRoom(tmp_path / "room"))
    assert told["metrics"]["f1_micro"] > 0.9
    one = TextClassifier(section(), settings, 1)
    assert "gives `labels: many`" in one.begin_from(tmp_path / "model")


# --- the bundle ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose loop has turned once."""
    config = tiny_labels.project(tmp_path_factory.mktemp("several"))
    llmops("run", config)
    return open_project(config)


def run_of(project: Project) -> Any:
    return RunStore(project.places.runs).runs()[0]


@pytest.fixture(scope="module")
def bundle(turned: Project) -> Path:
    path: Path = run_of(turned).path / "compress" / "bundle"
    return path


def dataset_of(project: Project) -> Path:
    path: Path = run_of(project).path / "prepare" / "dataset"
    return path


def test_answers_are_the_labels_that_reach_their_thresholds(bundle: Path) -> None:
    codec = TASK.codec(bundle)
    assert isinstance(codec, LabelsCodec)
    codec.settings = codec.settings.model_copy(update={"slope": 1.0, "intercepts": []})
    codec.cuts = np.array([0.4, 0.5, 0.6])  # account, delivery, money
    logits = np.array([log_odds(np.array([0.45, 0.9, 0.55])), log_odds(np.array([0.1, 0.2, 0.3]))])
    both, none = codec.decode([logits], [LabelsRequest(text="x"), LabelsRequest(text="x", others=1)])
    assert both.plain() == {
        "labels": [{"label": "delivery", "probability": 0.9}, {"label": "account", "probability": 0.45}],
        "others": [{"label": "money", "probability": 0.55}],
    }
    assert none.plain() == {"labels": [], "others": [{"label": "money", "probability": 0.3}]}
    assert (both.best, none.best) == ('["account", "delivery"]', "[]")
    assert both.probability == pytest.approx(0.45 * 0.9 * 0.45)
    assert not both.abstained


@pytest.mark.parametrize("name", ["thresholds", "intercepts"])
def test_a_bundle_with_too_few_numbers_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["settings"][name] = manifest["settings"][name][:-1]
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=f"`{name}` holds 2 numbers for 3 labels"):
        TASK.codec(tmp_path / "b")


def test_the_proof_says_what_the_answers_are_worth(turned: Project, bundle: Path) -> None:
    """The figures of the report, computed again from the answers that it lists."""
    report = run_of(turned).report("deploy")
    proof = [json.loads(line) for line in (run_of(turned).path / "deploy/proof/answers.jsonl").read_text().splitlines()]
    labels = sorted(tiny.TOPICS)
    truth, given = (multi_hot([line[name] for line in proof], labels).astype(bool) for name in ("true", "given"))
    found = figures(truth, given, given.astype(float))
    for name in ("f1_micro", "f1_macro", "subset_accuracy", "hamming_loss"):
        assert report.numbers[name] == pytest.approx(found[name])
    for name in ("f1_micro", "f1_macro", "subset_accuracy", "average_precision"):
        assert report.numbers[f"{name}_low"] <= report.numbers[name] <= report.numbers[f"{name}_high"]
    assert report.numbers["parity"] > 0.9
    assert "95 % interval" in report.headline
    each = next(table for table in report.tables if table.title.startswith("By label"))
    assert each.columns == ["label", "rows", "precision", "recall", "F1", "average precision", "threshold"]
    assert {row[0]: row[1] for row in each.rows} == dict(zip(labels, truth.sum(0).tolist(), strict=True))
    cuts = json.loads((bundle / "bundle.json").read_text())["settings"]["thresholds"]
    assert {row[0]: row[6] for row in each.rows} == dict(zip(labels, cuts, strict=True))
    [curve] = report.curves
    assert list(curve.lines["model"][-1]) == pytest.approx([1.0, truth.mean()])
    assert {"Commonest mistakes", "Labels that go together", "By number of labels"} <= {t.title for t in report.tables}
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "Any number of 3 labels" in card and "Platt" in card


def test_a_champion_that_knows_other_labels_is_scored_and_one_of_one_label_is_not(
    turned: Project, bundle: Path, tmp_path: Path
) -> None:
    opened = Predictor.open(bundle, threads=1)
    data = dataset_of(turned)
    whole = score(MANY, data, "test", opened)
    assert whole == pytest.approx(run_of(turned).report("deploy").numbers["f1_micro"], abs=0.05)
    fewer = tmp_path / "dataset"
    fewer.mkdir()
    (fewer / "labels.json").write_text('["account", "delivery"]')
    rows = [{**row, "label": [one for one in row["label"] if one != "money"]} for row in rows_of(data, "test").examples]
    (fewer / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    less = score(MANY, fewer, "test", opened)
    assert whole is not None and less is not None and less < whole, "what it says of money is wrong here"
    assert TASK.score(section(), data, "test", opened) is None


def test_calibration_in_the_bundle_is_that_of_its_own_answers(turned: Project, bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    opened, data = Predictor.open(bundle, threads=1), dataset_of(turned)
    requests = [opened.codec.request(row) for row in rows_of(data, "valid").examples]
    said = given_to(rows_of(data, "valid"), [(one.labels, one.others) for one in opened.answer_all(requests)])
    truth = rows_of(data, "valid").truth
    found = figures(truth, said.given, said.probabilities)
    assert found["f1_micro"] == pytest.approx(manifest["metrics"]["valid"]["f1_micro"], abs=0.05)
    logits = np.concatenate([opened.runtime.run(opened.codec.encode([request]))[0] for request in requests])
    settings, does = calibrate(MANY, data, logits)
    assert settings["thresholds"] == pytest.approx(manifest["settings"]["thresholds"], abs=0.1)
    assert does["f1_micro"] == pytest.approx(found["f1_micro"], abs=0.05)


def test_rows_can_be_answered_from_a_file(turned: Project) -> None:
    config = Path(str(turned.document.path))
    file = config.parent / "asked.csv"
    file.write_text("text,topics\nwhere is the courier with my parcel depot,\nrefund card charged locked password,\n")
    llmops("predict", config, str(file))
    first, second = (json.loads(line) for line in (config.parent / "asked.csv.answers.jsonl").read_text().splitlines())
    assert first["labels"][0]["label"] == "delivery"
    assert {one["label"] for one in second["labels"]} >= {"account", "money"}


# --- the report's tables ---------------------------------------------------------------------------------------------


TRUTH = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
GIVEN = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]], bool)


def test_mistakes_are_pairs_of_what_is_missed_and_what_is_too_many() -> None:
    rows = tables.mistakes(["a", "b", "c"], TRUTH, GIVEN).rows
    assert sorted(rows) == [["-", "a", 1], ["b", "c", 1], ["c", "-", 1]]


def test_pairs_that_go_together_and_rows_by_their_number_of_labels() -> None:
    assert tables.together(["a", "b", "c"], TRUTH, GIVEN).rows == [["a", "b", 2, 1, 1]]
    rows = tables.by_number(TRUTH, GIVEN).rows
    assert rows == [["0", 1, 1.0, 0.0], ["1", 1, 0.0, 0.0], ["2", 2, 2.0, 0.5]]


# --- the baseline ----------------------------------------------------------------------------------------------------


def test_the_baseline_is_one_against_the_rest(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MultiLabelBinarizer

    for name, seed in (("train", 1), ("valid", 2), ("test", 3)):
        rows = tiny_labels.rows(120, seed)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = score_dataset(MANY, tmp_path)
    binarizer = MultiLabelBinarizer()
    train, test = tiny_labels.rows(120, 1), tiny_labels.rows(120, 3)
    features = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, dtype=np.float32)
    model = make_pipeline(features, OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=200, tol=1e-3)))
    model.fit([row["text"] for row in train], binarizer.fit_transform([row["label"] for row in train]))
    truth = binarizer.transform([row["label"] for row in test])
    said = model.predict([row["text"] for row in test])
    assert found["test"] == pytest.approx(f1_score(truth, said, average="micro"))


def test_the_baseline_knows_one_label_too_and_a_split_without_rows(tmp_path: Path) -> None:
    rows = [{"text": f"pay {word}" if place % 2 else f"walk {word}", "label": ["pay"] if place % 2 else []}
            for place, word in enumerate("one two three four five six seven eight".split())]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    new = [*rows, {"text": "pay nine", "label": ["pay", "new"]}]
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in new))
    found = baseline_figures(tmp_path)
    assert found["test"] is None
    assert found["valid"] is not None
    assert found["valid"]["f1_micro"] == pytest.approx(10 / 11), "a label that training lacks is missed"


def test_labels_of_is_tidy() -> None:
    assert labels_of(" b ;a; b", ";") == ["a", "b"]


def test_a_project_can_not_ask_for_lists_with_one_label(tmp_path: Path) -> None:
    config = tiny.project(tmp_path)
    with pytest.raises(ConfigError) as told:
        open_project(config, ['task.label=["text", "label"]'])
    assert "labels: many" in told.value.mistakes[0].what
