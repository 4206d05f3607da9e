"""The KL divergence of a trained model from the one it started from, and what draws its answers."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmops.nets.causal import CausalReader, fresh_llama
from llmops.tasks.text_generation.divergence import divergence, draw_all, log_ratios
from llmops.tasks.text_generation.problem import Reading
from tests.rooms import FakeRoom
from tests.test_generation_training import learner, trained

END, VOCABULARY, MOST = 1, 5, 3
READING = Reading(16, documents=False, vocabulary=VOCABULARY)


def network(seed: int, sharper: float = 10.0) -> Any:
    """A tiny Llama whose probabilities are not all alike."""
    torch.manual_seed(seed)
    made = fresh_llama(VOCABULARY, 16, 1, 1, None, 16, [END], 0, None).eval()
    with torch.no_grad():
        made.lm_head.weight *= sharper
    return made


def every_answer() -> list[list[int]]:
    """Each answer that can be drawn: up to the end token, or `MOST` tokens long."""
    others = [token for token in range(VOCABULARY) if token != END]
    ended = [[*head, END] for length in range(MOST) for head in product(others, repeat=length)]
    return ended + [list(one) for one in product(others, repeat=MOST)]


def probability(made: Any, prompt: list[int], answer: list[int]) -> float:
    """p(answer | prompt), by transformers' own forward."""
    with torch.inference_mode():
        logp = made(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    return float(sum(logp[len(prompt) - 1 + place, token] for place, token in enumerate(answer)).exp())


def test_the_estimate_is_the_exact_sum() -> None:
    one, other, prompt = network(1), network(2), [2, 3]
    shares = np.array([[probability(made, prompt, answer) for answer in every_answer()] for made in (one, other)])
    assert shares.sum(1) == pytest.approx(1.0, abs=1e-5)
    exact = float((shares[0] * np.log(shares[0] / shares[1])).sum())
    found = divergence(CausalReader(one), CausalReader(other), [prompt] * 4000, MOST, [END], READING, seed=4)
    assert exact > 0.1
    assert found["kl_standard_error"] < 0.1 * exact
    assert found["kl_per_answer"] == pytest.approx(exact, abs=4 * found["kl_standard_error"])


def test_a_model_does_not_differ_from_itself() -> None:
    same = CausalReader(network(1))
    found = divergence(same, same, [[2, 3], [4]], MOST, [END], READING, seed=4)
    assert found == {"kl_per_answer": 0.0, "kl_standard_error": 0.0}


def test_answers_side_by_side_are_drawn_as_alone() -> None:
    """Prompts of many lengths; drawn answers have the chances that each has alone."""
    made, other, long = network(1), network(2), [2, 3, 4] * 4
    answers = draw_all(made, [[2, 3], long] * 3000, MOST, [END], READING.context, seed=4)
    for place, prompt in enumerate([[2, 3], long]):
        drawn = answers[place::2]
        likeliest = max(every_answer(), key=lambda answer: probability(made, prompt, answer))
        share = probability(made, prompt, likeliest)
        error = (share * (1 - share) / len(drawn)) ** 0.5
        assert drawn.count(likeliest) / len(drawn) == pytest.approx(share, abs=4 * error)
        [ratio] = log_ratios(CausalReader(made), CausalReader(other), [prompt], [likeliest], READING)
        assert ratio == pytest.approx(np.log(share / probability(other, prompt, likeliest)), abs=1e-4)


def test_answers_end_at_the_end_token_and_at_the_context() -> None:
    made = network(1)
    answers = draw_all(made, [[2] * length for length in (1, 8, 15)] * 20, 12, [END], 16, seed=4)
    for place, answer in enumerate(answers):
        room = (12, 8, 1)[place % 3]
        assert 1 <= len(answer) <= room
        assert END not in answer[:-1]
        assert len(answer) == room or answer[-1] == END


def test_training_leads_away_from_the_reference(tmp_path: Path) -> None:
    made, _, dataset = trained(tmp_path, "preferences", learning_rate=1e-2)
    found = made.divergence(dataset, "test")
    assert found["kl_per_answer"] > 0.1
    assert found["kl_standard_error"] > 0
    assert made.divergence(dataset, "test") == found, "the same answers are drawn again"


def test_a_loaded_model_measures_against_the_model_that_it_names(tmp_path: Path) -> None:
    first, _, dataset = trained(tmp_path, "preferences")
    first.save(tmp_path / "first")
    second = learner("preferences", model=str(tmp_path / "first"), method="lora", epochs=1)
    second.train(dataset, tmp_path / "second-work", FakeRoom(tmp_path))
    second.save(tmp_path / "second")
    loaded = learner("preferences")
    loaded.load(tmp_path / "second")
    assert loaded.divergence(dataset, "test")["kl_per_answer"] == pytest.approx(
        second.divergence(dataset, "test")["kl_per_answer"], abs=1e-4
    )
    # another model in its place is no reference
    with torch.no_grad():
        first.trained().lm_head.weight *= 1.5
    first.save(tmp_path / "first")
    assert loaded.divergence(dataset, "test") == {"kl_per_answer": None, "kl_standard_error": None}
