"""What the traffic is compared with: rows that the model was not trained on, answered by the champion itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.bundle.predictor import Predictor
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.fields.cleaning import cleaner
from llmops.fields.domain import words
from llmops.fields.hashing import normalise
from llmops.fields.redaction import KINDS, redact
from llmops.records.trafficreader import Logged
from llmops.stages.feedback.drift import ABSTAINS, ANSWERS, Sample
from llmops.stages.feedback.signals import Signals

Clean = Callable[[str], str]
HELD_OUT = 500
"""Rows of each split that the champion answers; more cost time and tell nothing new."""


def split(dataset: Path, name: str) -> list[Row]:
    """The rows of one split of the prepared data set."""
    path = dataset / f"{name}.jsonl"
    try:
        # Not splitlines: a text may hold U+2028 and its like, which JSON does not escape.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_labels(dataset: Path) -> list[str]:
    """The class labels of the prepared data set."""
    path = dataset / "labels.json"
    try:
        return list(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def holds_documents(dataset: Path) -> bool:
    """Whether the rows are documents, which no request looks like."""
    return any("document" in row for row in split(dataset, "valid")[:1])


def held_out(dataset: Path, seed: int, outside: str | None) -> tuple[list[str], list[str]]:
    """Texts of the validation rows and of the test rows, `HELD_OUT` of each at most.

    Out-of-scope rows never train, so all of them lie in these two; they are thinned to their share of the whole
    data set, or the comparison would expect far too many of them.
    """
    trained = sum("made_from" not in row for row in split(dataset, "train"))
    parts = split(dataset, "valid"), split(dataset, "test")
    beyond = sum(_is_outside(row, outside) for part in parts for row in part)
    inside = trained + sum(map(len, parts)) - beyond
    share, draw = beyond / max(inside, 1), random.Random(seed)
    return _thinned(parts[0], share, outside, draw), _thinned(parts[1], share, outside, draw)


def _is_outside(row: Row, outside: str | None) -> bool:
    return outside is not None and row.get("label") == outside


def _thinned(rows: Sequence[Row], share: float, outside: str | None, draw: random.Random) -> list[str]:
    """Texts drawn from `rows`, with `share` times as many out-of-scope ones as others at most."""
    texts = asked([row for row in rows if not _is_outside(row, outside)])
    beyond = [row["text"] for row in rows if _is_outside(row, outside)]
    texts += draw.sample(beyond, min(round(len(texts) * share), len(beyond)))
    return draw.sample(texts, min(len(texts), HELD_OUT))


def asked(rows: Sequence[Row]) -> list[str]:
    """What a server would have been asked: the texts of rows; of conversations each of the user's messages, for each
    is a request of its own, and those that stand in many conversations once."""
    texts = [row["text"] for row in rows if "messages" not in row]
    turns = [turn["content"] for row in rows for turn in row.get("messages", ()) if turn["role"] == "user"]
    return texts + list({normalise(text): text for text in turns}.values())


def known_words(dataset: Path, see: Clean) -> set[str]:
    """Every word of the training texts; made-up rows (typos, swapped words) teach no words."""
    return {word for row in split(dataset, "train") if "made_from" not in row for word in words(see(row["text"]))}


def seen_as(cleaning: dict[str, Any]) -> Clean:
    """How both sides are looked at: cleaned as the model does, personal data redacted as the log does. Without
    this, a placeholder or a capital letter that only one side can have would pass for drift."""
    clean = cleaner(cleaning)
    return lambda text: redact(clean(text), KINDS)


def unanswered(texts: Sequence[str], see: Clean) -> Sample:
    """`texts` alone: for a model that writes, an answer costs much and tells nothing that could be compared."""
    return Sample(texts=[see(text) for text in texts if text.strip()])


def answered(predictor: Predictor, texts: Sequence[str], see: Clean, signals: Signals) -> Sample:
    """The champion's answers to `texts`; in all but the text the requests are like the codec's sample, which asks no
    other server for anything."""
    codec = predictor.codec
    field, others = codec.one, codec.sample.plain()
    requests = [codec.Request(**{**others, field: text}) for text in texts if text.strip()]
    answers = predictor.answer_all(requests)
    return _sample(
        [(answer.best, answer.probability, answer.abstained) for answer in answers],
        [see(getattr(request, field)) for request in requests],
        signals,
    )


def _sample(answers: Sequence[tuple[Any, Any, bool]], texts: list[str], signals: Signals) -> Sample:
    """A sample of (label, probability, abstained), as far as the answers tell these."""
    if not signals.certainty:
        return Sample(texts=texts)
    sure = np.array([probability for _, probability, _ in answers])
    if not signals.labels:
        return Sample((), sure, texts, [ABSTAINS if abstained else ANSWERS for _, _, abstained in answers])
    return Sample([ABSTAINS if abstained else str(label) for label, _, abstained in answers], sure, texts)


def logged(rows: Sequence[Logged], see: Clean, signals: Signals) -> Sample:
    """Logged requests as a sample, newest first. A question asked many times counts once: the data set has no
    duplicates either, and copies would make every test surer than it may be."""
    seen: set[str] = set()
    kept: list[tuple[Logged, str]] = []
    for row in reversed(rows):
        if (signals.certainty and row.probability is None) or (signals.labels and row.label is None):
            continue
        text = "" if row.text is None else see(row.text)
        key = normalise(text)
        if key in seen if text else not signals.certainty:
            continue
        seen.add(key)
        kept.append((row, text))
    answers = [(row.label, row.probability, row.abstained) for row, _ in kept]
    return _sample(answers, [text for _, text in kept if text], signals)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"the data set cannot be read: {error}", str(path), "make it again: llmops prepare CONFIG")
