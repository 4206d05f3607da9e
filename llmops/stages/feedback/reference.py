"""What the traffic is compared with: rows that the model was not trained on, answered by the champion itself."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.bundle.predictor import Predictor
from llmops.core.errors import DataError
from llmops.core.protocols import Row, Rows, Task
from llmops.fields.kind import Column
from llmops.fields.labelsets import labels_of
from llmops.fields.rows import columns_of, read_split
from llmops.records.trafficreader import Logged
from llmops.stages.feedback.drift import ABSTAINS, ANSWERS, NO_LABEL, Sample
from llmops.stages.feedback.lens import Lens
from llmops.stages.feedback.signals import Signals, number_in

HELD_OUT = 500
"""Rows of each split that the champion answers at least; more cost time and tell nothing new of texts."""
DRAWN_FROM = 20_000
"""Rows of a split that they are drawn from."""
LEARNT = 50_000
"""Training rows that tell what training saw."""
BATCH = 1024
"""Rows of fields in one batch."""
Answer = tuple[Any, Any, bool, float | None]
"""(label, or several as one text; probability, abstained, number)"""


def split(dataset: Path, name: str) -> Rows:
    """The rows of one split of the prepared data set."""
    try:
        return read_split(dataset, name)
    except (OSError, ValueError) as error:
        raise _unreadable(dataset / name, error) from error


def read_labels(dataset: Path) -> list[str]:
    """The class labels of the prepared data set."""
    path = dataset / "labels.json"
    try:
        return list(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def holds_documents(dataset: Path) -> bool:
    """Whether the rows are documents, which no request looks like."""
    rows = split(dataset, "valid")
    return bool(len(rows)) and "document" in rows.row(0)


def held_out(dataset: Path, task: Task, section: Any, lens: Lens, seed: int) -> tuple[list[Row], list[Row]]:
    """What the validation rows and the test rows would have asked, some hundreds or thousands of each at most.

    Out-of-scope rows never train, so all of them lie in these two; they are thinned to their share of the whole
    data set, or the comparison would expect far too many of them.
    """
    outside, draw = getattr(section, "outside", None), random.Random(seed)
    valid, test = split(dataset, "valid"), split(dataset, "test")
    share = 0.0 if outside is None else _share_outside(split(dataset, "train"), valid.joined([test]), outside)
    limit = max(HELD_OUT, min(kind.compared for kind in lens.kinds.values()) // 2)

    def drawn(rows: Rows) -> list[Row]:
        places = range(len(rows))
        few = rows if len(rows) <= DRAWN_FROM else rows.take(sorted(draw.sample(places, DRAWN_FROM)))
        beyond = [outside is not None and row.get("label") == outside for row in few]
        asks = asked(task, section, (row for row, out in zip(few, beyond, strict=True) if not out), lens)
        strangers = asked(task, section, (row for row, out in zip(few, beyond, strict=True) if out), lens)
        asks += draw.sample(strangers, min(round(len(asks) * share), len(strangers)))
        return draw.sample(asks, min(len(asks), limit))

    return drawn(valid), drawn(test)


def _share_outside(train: Rows, others: Rows, outside: str) -> float:
    """Out-of-scope rows for each other row of the data set."""
    trained = sum(made is None for made in train.values("made_from"))
    beyond = sum(label == outside for label in others.values("label"))
    return float(beyond / max(trained + len(others) - beyond, 1))


def asked(task: Task, section: Any, rows: Iterable[Row], lens: Lens) -> list[Row]:
    """What a server would have been asked by rows; what stands in several of them once (unless the lens says that rows
    repeat), and nothing where there is nothing to ask."""
    asks = [ask for row in rows for ask in task.asks(section, row)]
    asks = [ask for ask in asks if any(value is not None and str(value).strip() for value in ask.values())]
    if lens.repeats or not asks:
        return asks
    keys = lens.keys(lens.columns(asks)).tolist()
    return list(dict(zip(keys, asks, strict=True)).values())


def known(dataset: Path, lens: Lens, seed: int) -> dict[str, dict[str, Any]]:
    """What training saw of each field; made-up rows (typos, swapped words) teach nothing."""
    rows = split(dataset, "train")
    own = np.flatnonzero([made is None for made in rows.values("made_from")])
    if len(own) > LEARNT:
        own = np.sort(np.random.default_rng(seed).choice(own, LEARNT, replace=False))
    columns = lens.seen(columns_of(rows.take(own), lens.kinds))
    return {name: kind.known(columns[name]) for name, kind in lens.kinds.items()}


def unanswered(asks: Sequence[Row], lens: Lens) -> Sample:
    """What was asked alone: for a model that writes, an answer costs much and tells nothing that could be compared."""
    return Sample(fields=lens.columns(asks))


def answered(predictor: Predictor, asks: Sequence[Row], lens: Lens, signals: Signals) -> Sample:
    """The champion's answers; the requests ask no other server for anything (`Codec.request`)."""
    codec = predictor.codec
    found = predictor.answer_all([codec.request(ask) for ask in asks], 32 if codec.one else BATCH)
    numbers = [number_in(answer.plain()) if signals.numbers else None for answer in found]
    answers = [(one.best, one.probability, one.abstained, value) for one, value in zip(found, numbers, strict=True)]
    return _sample(answers, lens.columns(asks), signals)


def _sample(answers: Sequence[Answer], fields: Mapping[str, Column], signals: Signals) -> Sample:
    """A sample of answers, as far as they tell something, and of what was asked."""
    if not signals.answers:
        return Sample(fields=fields)
    if signals.numbers:
        return Sample(fields=fields, values=np.array([value for *_, value in answers], np.float64))
    sure = np.array([probability for _, probability, *_ in answers], np.float64)
    if not signals.labels:
        return Sample((), sure, fields, [ABSTAINS if abstained else ANSWERS for _, _, abstained, _ in answers])
    if signals.several:
        sets = [tuple(labels_of(label)) or (NO_LABEL,) for label, *_ in answers]
        return Sample(confidence=sure, fields=fields, several=sets)
    return Sample([ABSTAINS if abstained else str(label) for label, _, abstained, _ in answers], sure, fields)


Heard = tuple[Logged, Row | None]
"""A logged request with its inputs; None where the log keeps none."""


def heard(task: Task, section: Any, rows: Sequence[Logged], lens: Lens, signals: Signals) -> list[Heard]:
    """Logged requests with what they asked, newest first. A question asked many times counts once: the data set has no
    duplicates either, and copies would make every test surer than it may be. Where it has (see Lens), only a request of
    one id that was sent again does."""
    told = [row for row in reversed(rows) if _tells(row, signals)]
    asks = [None if row.request is None else task.asked(section, row.request) for row in told]
    keys = iter(lens.keys(lens.columns([ask for ask in asks if ask is not None])).tolist())
    seen: set[Any] = set()
    found: list[Heard] = []
    for row, ask in zip(told, asks, strict=True):
        key = None if ask is None else next(keys)
        if key is None and not signals.answers:
            continue
        once = key if not lens.repeats or key is None else _sent_again_by(key, row, section)
        if once is None or once not in seen:
            found.append((row, ask))
        seen.add(once)
    return found


def _sent_again_by(key: int, row: Logged, section: Any) -> tuple[int, str] | None:
    """What a request and its copy share where different ones may agree in all inputs; None for one without an id."""
    own = (row.request or {}).get(getattr(section, "id", None) or "")
    return None if own is None else (key, str(own))


def _tells(row: Logged, signals: Signals) -> bool:
    """Whether a row of the log holds all that the task's answers tell."""
    lacks = (signals.certainty and row.probability is None) or (signals.labels and row.label is None)
    return not (lacks or (signals.numbers and number_in(row.response) is None))


def logged(found: Sequence[Heard], lens: Lens, signals: Signals) -> Sample:
    """Requests of the log as a sample."""
    numbers = [number_in(row.response) if signals.numbers else None for row, _ in found]
    answers = [
        (row.label, row.probability, row.abstained, value) for (row, _), value in zip(found, numbers, strict=True)
    ]
    return _sample(answers, lens.columns([ask for _, ask in found if ask is not None]), signals)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"the data set cannot be read: {error}", str(path), "make it again: llmops prepare CONFIG")
