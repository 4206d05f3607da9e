"""Measures a candidate that writes on this machine: its loss token by token, and how fast it writes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Measured, Opened, Stepper
from llmops.core.report import Number
from llmops.tasks.text_generation.arrays import split as encoded
from llmops.tasks.text_generation.assess import (
    Answers,
    agreement,
    language_figures,
    loss_figures,
    preference_figures,
)
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.rows import Limits, conversations, documents
from llmops.tasks.text_generation.windows import Window, about, windows, windows_of

STEPS = 48
"""Tokens written for a timing."""
TURNS = 3
PROMPT = 32
"""Tokens read before the writing, at most."""


def measure(section: TextGenerationSection, dataset: Path, opened: Opened, trained: Answers) -> Measured:
    """A candidate's quality on validation, its agreement with `trained` (the trained model's raw answers to the same
    windows), and its speed.

    Figures: tokens_per_s of one stream, streams_tokens_per_s of all slots together, first_token_ms, and the metrics as
    valid_<metric>.
    """
    seen = windows(dataset, "valid")
    answers = read_all(opened.runtime, seen)
    if "reference_logp" in trained:
        answers["reference_logp"] = trained["reference_logp"]
    found = figures_of(section, dataset, "valid", seen, answers)
    speed = time_writing(opened.runtime, seen)
    numbers: dict[str, Number] = {**speed, **{f"valid_{name}": value for name, value in found.items()}}
    return Measured(
        quality=found[section.metric_name],
        agreement=agreement(answers, trained),
        cost_ms=1000.0 / speed["tokens_per_s"],
        figures=numbers,
        answers=answers,
    )


def score(section: TextGenerationSection, dataset: Path, split: str, opened: Opened) -> float | None:
    """The metric of an opened bundle on a split, of which it may read other tokens than the data set holds.

    Its loss counts for each token of the data set, so that models with different tokenizers are compared on the same
    words. None for preferences: what a model raised can only be said beside the model that it started from.
    """
    if section.objective == "preferences":
        return None
    own = encoded_anew(section, dataset, split, opened.codec)
    nats = -float(read_all(opened.runtime, own)["logp"].sum(dtype=np.float64))
    loss = nats / sum(len(window.counted) for window in windows(dataset, split))
    return loss_figures(loss, about(dataset)["bytes_per_token"][split])[section.metric_name]


def encoded_anew(section: TextGenerationSection, dataset: Path, split: str, codec: GenerationCodec) -> list[Window]:
    """The rows of a split in the tokens of a bundle's own codec."""
    lines = (dataset / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    running = section.objective == "language-model"
    if running:
        found = list(documents(rows, codec.tokenizer, codec.begin, min(codec.end_tokens)))
    elif codec.spoken is None:
        raise DataError("the bundle has no chat template", do="promote another version: llmops rollback CONFIG")
    else:
        found = list(conversations(rows, codec.spoken, Limits(codec.context, codec.begin), section.learn))
    arrays = encoded(found)
    plain = {name: getattr(arrays, name) for name in ("tokens", "offsets", "trained", "documents")}
    return windows_of(plain, running, codec.context)


def trained_quality(section: TextGenerationSection, dataset: Path, split: str, answers: Answers) -> dict[str, float]:
    """The figures of the trained model's raw answers to a split."""
    return figures_of(section, dataset, split, windows(dataset, split), answers)


def figures_of(
    section: TextGenerationSection, dataset: Path, split: str, seen: Sequence[Window], answers: Answers
) -> dict[str, float]:
    """Loss and its kin, and the rewards where pairs are compared."""
    found = language_figures(seen, answers, about(dataset)["bytes_per_token"][split])
    if "reference_logp" in answers:
        found |= preference_figures(seen, answers, float(answers["beta"]) if "beta" in answers else 1.0)
    return found


def read_all(stepper: Stepper, seen: Sequence[Window]) -> dict[str, np.ndarray[Any, Any]]:
    """Raw answers to windows: the model reads each whole, and says after every token what it takes for the next."""
    argmax, logp = [], []
    for window in seen:
        places = window.counted
        if not len(places):
            continue
        logits = stepper.score(window.tokens[:-1].tolist())[places - 1]  # what follows the last one is not asked
        argmax.append(logits.argmax(axis=1))
        logp.append(log_probabilities(logits, window.targets))
    return {"argmax": np.concatenate(argmax), "logp": np.concatenate(logp)}


def log_probabilities(logits: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """log p of `targets` [n] under logits [n, vocabulary], float32 [n]."""
    high = logits.max(axis=1)
    total = np.log(np.exp(logits - high[:, None]).sum(axis=1))
    chosen = logits[np.arange(len(targets)), targets]
    return np.asarray(chosen - high - total, np.float32)


def time_writing(stepper: Stepper, seen: Sequence[Window]) -> dict[str, float]:
    """tokens_per_s of one stream and of all slots at once, first_token_ms; medians of three turns."""
    prompt = max(seen, key=lambda window: len(window.tokens)).tokens[: min(PROMPT, stepper.context // 2)].tolist()
    steps = min(STEPS, stepper.context - len(prompt) - 1)
    one = [_write(stepper, prompt, 1, steps) for _ in range(TURNS)]
    many = [_write(stepper, prompt, stepper.slots, steps) for _ in range(TURNS)]
    return {
        "tokens_per_s": float(np.median([steps / took for _, took in one])),
        "streams_tokens_per_s": float(np.median([stepper.slots * steps / took for _, took in many])),
        "first_token_ms": float(np.median([first for first, _ in one])) * 1000,
    }


def _write(stepper: Stepper, prompt: list[int], streams: int, steps: int) -> tuple[float, float]:
    """(seconds until the first token of one stream, seconds of the steps after the prompts were read)."""
    began = time.perf_counter()
    chosen = {slot: int(stepper.prefill(slot, prompt).argmax()) for slot in range(streams)}
    first = (time.perf_counter() - began) / streams
    began = time.perf_counter()
    for _ in range(steps):
        logits = stepper.step(chosen)
        chosen = {slot: int(row.argmax()) for slot, row in zip(chosen, logits, strict=True)}
    took = time.perf_counter() - began
    for slot in range(streams):
        stepper.free(slot)
    return first, took
