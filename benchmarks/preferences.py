"""Direct preference optimisation on few real pairs: held-out reward accuracy over five folds, beside "longer wins".

    python benchmarks/preferences.py ../shared/data/preference_demo/dpo_en_demo.json

No pretrained model is at hand, so each fold has a reference of its own: tokenizer and network are trained from scratch
on the chosen answers of the fold's training part (objective instructions), and DPO starts there (objective
preferences). A tenth of the training part chooses the best epoch of both. So nothing of a fold's held-out pairs has
been seen; pairs whose conversations open alike, twins among them, lie in one fold. "longer wins" counts the characters
of whole answers and needs no training; what is left to 1 is won by the shorter answer. Answers that do not fit into the
context are cut for the model. The settings were not searched on these folds. The last line is JSON.
"""

from __future__ import annotations

import argparse
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
from llmops.core.intervals import wilson
from llmops.core.protocols import Row
from llmops.fields.hashing import normalise
from llmops.tasks.text_generation.assess import Answers, per_window, preference_figures
from llmops.tasks.text_generation.config import GenerationTrainSection, TextGenerationSection
from llmops.tasks.text_generation.encoder import GenerationEncoder
from llmops.tasks.text_generation.examples import example
from llmops.tasks.text_generation.learner import GenerationLearner
from llmops.tasks.text_generation.windows import about, windows

FOLDS, VALID, SEED = 5, 0.1, 1
CONTEXT = 256
REFERENCE: dict[str, Any] = {
    "vocabulary": 2048,
    "width": 128,
    "layers": 3,
    "heads": 4,
    "dropout": 0.1,
    "epochs": 8,
    "batch_size": 4,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "weight_decay": 0.1,
}
DPO: dict[str, Any] = {"beta": 0.1, "epochs": 4, "batch_size": 16, "learning_rate": 3e-4}

Array = np.ndarray[Any, Any]
Splits = dict[str, list[Row]]


@dataclass(frozen=True)
class Fold:
    """What one fold's training came to on its held-out pairs; `raised` bool [pairs]: the chosen answer was raised more
    than the rejected one; `longer` [pairs]: 1 where it is the longer one, 0.5 where both are equally long."""

    raised: Array
    longer: Array
    figures: dict[str, float]
    divergence: dict[str, Any]
    training_accuracy: float
    reference_loss: float
    unigram_loss: float
    cut: int
    both_cut: int
    seconds: float


def read_pairs(path: Path) -> list[Row]:
    """The pairs of a JSON list in any shape that llmops knows; rows that it cannot use are told."""
    section = TextGenerationSection(objective="preferences")
    found = [example(section, row) for row in json.loads(path.read_bytes())]
    for number, row in enumerate(found, 1):
        if isinstance(row, str):
            say(f"row {number} is left out: {row}")
    return [row for row in found if not isinstance(row, str)]


def opening(row: Row) -> str:
    """The user's first words."""
    return normalise(next(message["content"] for message in row["messages"] if message["role"] == "user"))


def parts(rows: Sequence[Row], shares: int, chance: np.random.Generator) -> Array:
    """The part of each row, int64 [rows], 0 to shares - 1, nearly equally large; rows that open alike are together."""
    openings = {text: number for number, text in enumerate(dict.fromkeys(map(opening, rows)))}
    order = chance.permutation(len(openings)) % shares
    return np.array([order[openings[opening(row)]] for row in rows])


def split(rows: Sequence[Row], where: Array, fold: int) -> Splits:
    """The fold's rows: held out (test), and of the others a tenth to choose the epoch by (valid)."""
    others = [row for row, part in zip(rows, where, strict=True) if part != fold]
    inner = parts(others, round(1 / VALID), np.random.default_rng([SEED, fold]))
    return {
        "train": [row for row, part in zip(others, inner, strict=True) if part],
        "valid": [row for row, part in zip(others, inner, strict=True) if not part],
        "test": [row for row, part in zip(rows, where, strict=True) if part == fold],
    }


def answered(row: Row) -> Row:
    """The conversation with its chosen answer, as instructions have it."""
    messages = [*row["messages"], {"role": "assistant", "content": row["chosen"]}]
    return {"messages": messages, "text": row["text"]}


def trained(objective: str, settings: dict[str, Any], splits: Splits, folder: Path) -> GenerationLearner:
    """A model trained on splits, which are encoded into folder/dataset."""
    section = TextGenerationSection.model_validate({"objective": objective, "context": CONTEXT})
    train = GenerationTrainSection.model_validate(settings)
    GenerationEncoder(section, train).prepare(splits, folder / "dataset")
    learner = GenerationLearner(section, train, SEED)
    learner.train(folder / "dataset", folder / "work", Quiet(folder))
    return learner


def run(splits: Splits, folder: Path) -> Fold:
    """Reference, DPO, and the held-out pairs."""
    began = time.monotonic()
    chosen = {name: [answered(row) for row in rows] for name, rows in splits.items()}
    reference = trained("instructions", REFERENCE, chosen, folder / "reference")
    reference.save(folder / "reference" / "model")
    dataset = folder / "reference" / "dataset"
    reference_loss = -float(reference.predict(dataset, "test")["logp"].mean(dtype=np.float64))
    settings = {**DPO, "model": str(folder / "reference" / "model")}
    learner = trained("preferences", settings, splits, folder / "dpo")
    pairs = folder / "dpo" / "dataset"
    found, seen = learner.predict(pairs, "test"), windows(pairs, "test")
    cut = cut_answers(pairs)
    return Fold(
        raised=margins(pairs, "test", found) > 0,
        longer=np.array([longer_wins(row) for row in splits["test"]]),
        figures=preference_figures(seen, found, learner.settings.beta),
        divergence=learner.divergence(pairs, "test"),
        training_accuracy=float((margins(pairs, "train", learner.predict(pairs, "train")) > 0).mean()),
        reference_loss=reference_loss,
        unigram_loss=about(dataset)["unigram_loss"]["test"],
        cut=int(cut.any(1).sum()),
        both_cut=int(cut.all(1).sum()),
        seconds=time.monotonic() - began,
    )


def margins(dataset: Path, name: str, found: Answers) -> Array:
    """How much more the chosen answer was raised than the rejected one, nats, float64 [pairs]."""
    gain = per_window(windows(dataset, name), found["logp"]) - found["reference_logp"]
    return np.asarray(gain[0::2] - gain[1::2])


def cut_answers(dataset: Path) -> Array:
    """Whether the held-out answers do not come to their end, bool [pairs, 2], chosen and rejected."""
    end = about(dataset)["end_token"]
    return np.array([window.tokens[-1] != end for window in windows(dataset, "test")]).reshape(-1, 2)


def longer_wins(row: Row) -> float:
    chosen, rejected = len(row["chosen"]), len(row["rejected"])
    return 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0


def share(won: Array) -> dict[str, float]:
    """A share of pairs with its 95 % Wilson interval."""
    low, high = wilson(float(won.mean()), len(won))
    return {"share": float(won.mean()), "low": low, "high": high}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def told(name: str, figures: dict[str, float]) -> str:
    return f"{name:>16}  {figures['share']:.3f}  [{figures['low']:.3f}, {figures['high']:.3f}]"


def line(number: int, fold: Fold) -> str:
    return (
        f"fold {number}: {len(fold.raised)} pairs, reward accuracy {fold.raised.mean():.3f} "
        f"(training pairs {fold.training_accuracy:.3f}), longer wins {fold.longer.mean():.3f}, "
        f"margin {fold.figures['margin']:+.3f}, chosen gain {fold.figures['chosen_gain']:+.2f} nats, "
        f"KL {fold.divergence['kl_per_answer']:.2f} +- {fold.divergence['kl_standard_error']:.2f} nats an answer; "
        f"reference {fold.reference_loss:.3f} nats a token (unigram {fold.unigram_loss:.3f}); {fold.seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    asked = parser.parse_args()
    began, rows = time.monotonic(), read_pairs(asked.pairs)
    where = parts(rows, FOLDS, np.random.default_rng(SEED))
    twins = len(rows) - len({row["twin"] for row in rows})
    say(f"{len(rows)} pairs, {twins} of them twins of others; context {CONTEXT}")
    say(f"reference {REFERENCE}\nDPO {DPO}\n{torch.get_num_threads()} threads")
    folds = []
    for number in range(FOLDS):
        with tempfile.TemporaryDirectory() as folder:
            folds.append(run(split(rows, where, number), Path(folder)))
        say(line(number + 1, folds[-1]))
    reward = share(np.concatenate([fold.raised for fold in folds]))
    longer = share(np.concatenate([fold.longer for fold in folds]))
    cut, both = sum(fold.cut for fold in folds), sum(fold.both_cut for fold in folds)
    say(f"of {len(rows)} pairs, {cut} have an answer that was cut for the model, {both} two")
    say(told("reward accuracy", reward) + "\n" + told("longer wins", longer))
    result = {
        "pairs": len(rows),
        "twins": twins,
        "reward_accuracy": reward,
        "longer_wins": longer,
        "kl_per_answer": [fold.divergence["kl_per_answer"] for fold in folds],
        "kl_standard_error": [fold.divergence["kl_standard_error"] for fold in folds],
        "folds": [float(fold.raised.mean()) for fold in folds],
        "training_accuracy": float(np.mean([fold.training_accuracy for fold in folds])),
        "cut": {"one_or_both": cut, "both": both},
        "took_s": round(time.monotonic() - began, 1),
    }
    say(json.dumps(result))


if __name__ == "__main__":
    main()
