"""Retrieval on a bank's FAQ: BM25, MiniLM untuned, tuned and as served, side by side over five splits.

    python benchmarks/retrieval.py ../shared/data/bank_faq/BankFAQs.csv [--method full] [--splits 5]

Questions that `normalise` makes equal are one question, whose answers are all right; so none stands on both
sides of a split. The index holds every answer and no question. A fifth of the questions is held out and asks, a tenth
validates, the rest trains. Ranks are not cut: `mrr` here counts the right answer wherever it stands. The last line is
JSON. `frozen` (default) trains the projection on vectors that are computed once; `full` trains all weights, minutes a
split.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quiet import Quiet
from llmops.engine.device import seed_everything
from llmops.engine.fit import fit
from llmops.engine.ragged import Ragged, ragged
from llmops.fields.hashing import normalise
from llmops.nets.pretrained import find
from llmops.nets.tokenizer import pretrained_tokenizer
from llmops.tasks.answering.config import AnsweringSection, AnsweringTrainSection
from llmops.tasks.answering.lexical import Lexical
from llmops.tasks.answering.network import fresh_network
from llmops.tasks.answering.problem import FrozenPairProblem, PairProblem, Pairs, in_batches
from llmops.tasks.answering.ranking import blend, ranks

FIGURES = ("recall_at_1", "recall_at_5", "mrr")
SYSTEMS = ("BM25", "MiniLM", "MiniLM + BM25", "tuned", "tuned + BM25")
HELD_OUT, VALID = 0.2, 0.1
FROZEN: dict[str, Any] = {"method": "frozen"}
FULL: dict[str, Any] = {"method": "full", "epochs": 2, "batch_size": 32, "train_tokens": 64}


@dataclass(frozen=True)
class Faq:
    """Different questions, the numbers of each one's right answers, and the different answers."""

    questions: list[str]
    right: list[frozenset[int]]
    answers: list[str]


def read_faq(path: Path) -> Faq:
    """The questions and answers of a CSV with the columns Question and Answer, each text once."""
    numbers: dict[str, int] = {}
    answers: list[str] = []
    first: dict[str, str] = {}
    right: dict[str, set[int]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            key = normalise(row["Answer"])
            if key not in numbers:
                numbers[key] = len(answers)
                answers.append(row["Answer"])
            asked = normalise(row["Question"])
            first.setdefault(asked, row["Question"])
            right.setdefault(asked, set()).add(numbers[key])
    return Faq(list(first.values()), [frozenset(right[key]) for key in first], answers)


class Bench:
    """One FAQ with what every split shares: BM25 shares, tokens, the untuned encoder's vectors."""

    def __init__(self, faq: Faq, train: AnsweringTrainSection) -> None:
        self.faq, self.train, self.task = faq, train, AnsweringSection()
        self.shares = Lexical(faq.answers).shares(faq.questions)
        tokenizer = pretrained_tokenizer(find(train.model))
        tokenizer.enable_truncation(self.task.max_tokens)
        self.asked = [one.ids for one in tokenizer.encode_batch(faq.questions)]
        self.entries = ragged([one.ids for one in tokenizer.encode_batch(faq.answers)], range(len(faq.answers)))
        questions = ragged(self.asked, [0] * len(self.asked))
        network = fresh_network(train.model_copy(update={"method": "frozen"})).eval()
        self.base_asked, self.base_answers = (
            in_batches(lambda rows, data=data: network.pooled(*tensors(data, rows)), data.lengths)  # type: ignore[misc]
            for data in (questions, self.entries)
        )

    def pairs(self, training: np.ndarray, validating: np.ndarray) -> Pairs:
        """Rows of these questions: one for each right answer in training, one a question in validation."""
        rows = [(int(q), answer) for q in training for answer in sorted(self.faq.right[q])]
        valid = [(int(q), min(self.faq.right[q])) for q in validating]
        return Pairs(
            train=self.rows(rows), valid=self.rows(valid), entries=self.entries,
            right=[self.faq.right[q] for q, _ in rows], valid_right=[self.faq.right[q] for q, _ in valid],
            negatives=np.zeros((len(rows), 0), np.int64), shares=self.shares[validating],
        )  # fmt: skip

    def rows(self, rows: Sequence[tuple[int, int]]) -> Ragged:
        return ragged([self.asked[question] for question, _ in rows], [answer for _, answer in rows])

    def tuned(self, seed: int, training: np.ndarray, validating: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        """Cosines of the held-out questions by a model trained on the others, float32 [held out, answers]."""
        seed_everything(seed)
        pairs = self.pairs(training, validating)
        network = fresh_network(self.train)
        kind = SharedVectors if self.train.method == "frozen" else PairProblem
        SharedVectors.bench = self
        metric, lexical = self.task.metric, self.task.lexical
        problem = kind(network, pairs, self.train, metric, lexical, 0, torch.device("cpu"))
        with tempfile.TemporaryDirectory() as work:
            fit(problem, self.train, seed, Path(work), Quiet(Path(work)))
        problem.finish()
        network.eval()
        if self.train.method == "frozen":
            with torch.inference_mode():
                asked = network.project(torch.from_numpy(self.base_asked[held_out])).numpy()
                return similarity(asked, network.project(torch.from_numpy(self.base_answers)).numpy())
        data = self.rows([(int(q), 0) for q in held_out])
        asked, answers = (
            in_batches(lambda rows, data=data: network(*tensors(data, rows)), data.lengths)  # type: ignore[misc]
            for data in (data, self.entries)
        )
        return similarity(asked, answers)

    def split(self, seed: int) -> dict[str, dict[str, float]]:
        """Every system's figures on one split."""
        order = np.random.default_rng(seed).permutation(len(self.faq.questions))
        first, second = int(len(order) * HELD_OUT), int(len(order) * (HELD_OUT + VALID))
        held_out, validating, training = order[:first], order[first:second], order[second:]
        right, shares = [self.faq.right[q] for q in held_out], self.shares[held_out]
        untuned = self.base_asked[held_out] @ self.base_answers.T
        tuned = self.tuned(seed, training, validating, held_out)
        tables = (
            shares, untuned, blend(untuned, shares, self.task.lexical), tuned, blend(tuned, shares, self.task.lexical),
        )  # fmt: skip
        return {name: told(ranks(table, right)) for name, table in zip(SYSTEMS, tables, strict=True)}


class SharedVectors(FrozenPairProblem):
    """The encoder is the same for every split, so are its vectors: they are looked up."""

    bench: Bench

    def pool_all(self, data: Ragged) -> torch.Tensor:
        if data is self.bench.entries:
            return torch.from_numpy(self.bench.base_answers)
        place = {tuple(ids): number for number, ids in enumerate(self.bench.asked)}
        rows = [tuple(data.tokens[a:b]) for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
        return torch.from_numpy(self.bench.base_asked[[place[row] for row in rows]])


def tensors(data: Ragged, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
    tokens, mask = data.padded(rows, 0)
    return torch.from_numpy(tokens), None if mask is None else torch.from_numpy(mask)


def similarity(asked: np.ndarray, answers: np.ndarray) -> np.ndarray:
    cosines: np.ndarray = asked @ answers.T
    return cosines


def told(found: np.ndarray) -> dict[str, float]:
    return dict(zip(FIGURES, map(float, ((found == 1).mean(), (found <= 5).mean(), (1 / found).mean())), strict=True))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(name: str, figures: dict[str, float]) -> str:
    return f"{name:>15}  " + "  ".join(f"{figures[figure]:.3f}" for figure in FIGURES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faq", type=Path)
    parser.add_argument("--method", choices=("frozen", "full"), default="frozen")
    parser.add_argument("--splits", type=int, default=5)
    asked = parser.parse_args()
    began, faq = time.monotonic(), read_faq(asked.faq)
    settings = FROZEN if asked.method == "frozen" else FULL
    bench = Bench(faq, AnsweringTrainSection.model_validate(settings))
    say(f"{len(faq.questions):,} different questions, {len(faq.answers):,} different answers; {settings}")
    splits = []
    for seed in range(asked.splits):
        splits.append(bench.split(seed))
        say(f"split {seed:>9}  recall@1  recall@5  MRR")
        say("\n".join(line(name, splits[-1][name]) for name in SYSTEMS))
    means = {
        name: {figure: float(np.mean([one[name][figure] for one in splits])) for figure in FIGURES} for name in SYSTEMS
    }
    say("mean")
    say("\n".join(line(name, means[name]) for name in SYSTEMS))
    above = {figure: sum(one["tuned + BM25"][figure] > one["BM25"][figure] for one in splits) for figure in FIGURES}
    took = round(time.monotonic() - began, 1)
    result = {"method": asked.method, "splits": len(splits), "took_s": took, "mean": means, "splits_above_bm25": above}
    say(json.dumps(result))


if __name__ == "__main__":
    main()
