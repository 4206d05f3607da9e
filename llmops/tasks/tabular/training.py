"""Training: fits the parts fold by fold, gathers answers to rows that no part saw, and weighs the kinds by them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from llmops.core.protocols import Listener, Room
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.blend import chosen_weights
from llmops.tasks.tabular.fitted import Blend, Fitted
from llmops.tasks.tabular.folds import Part, PartMaker

Floats = np.ndarray[Any, Any]
Figures = Callable[[Floats, "Honest"], dict[str, float]]
"""The task's figures of raw answers to honest rows."""


@dataclass
class Honest:
    """Answers to rows that the model that gave them never saw: raw [rows, outputs] of each kind, beside the truth."""

    truth: Floats
    weight: Floats
    raw: dict[str, Floats] = field(default_factory=dict)

    def known(self) -> Honest:
        """Without rows that are not answered yet, or of classes that training lacks; of the kinds that answered."""
        answered = {kind: values for kind, values in self.raw.items() if not np.isnan(values[:, 0]).all()}
        there = ~np.any([np.isnan(values[:, 0]) for values in answered.values()], axis=0)
        there &= self.truth >= 0 if self.truth.dtype.kind == "i" else True
        return Honest(self.truth[there], self.weight[there], {kind: v[there] for kind, v in answered.items()})

    def blended(self, weights: Mapping[str, float] | None = None) -> Floats:
        """The weighted sum of the kinds' answers; their mean when no weights are given."""
        shares = weights or dict.fromkeys(self.raw, 1.0 / len(self.raw))
        return np.asarray(sum(share * self.raw[kind] for kind, share in shares.items()))


@dataclass
class Training:
    """One training: `kinds` of models on the rows of `train` (cut by `fold`, -1: never held out) and `valid`.

    `weighted` are the training rows with the classes' weights that models learn by; figures and probabilities go by the
    rows' own. With folds each part stops early on its own held-out fold, so that few validation rows are enough;
    without, on the validation rows. That a fold told its part when to stop makes honest answers hardly better than they
    are: benchmarks/coverage.py shows what intervals settled by them hold.
    """

    kinds: list[str]
    train: Arrays
    weighted: Arrays
    valid: Arrays
    fold: Floats
    folds: int
    classes: int
    maker: PartMaker
    figures: Figures
    history: list[dict[str, float]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    members: dict[str, list[Fitted]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        truth = np.concatenate([self.train.y, self.valid.y])
        self.honest = Honest(truth, np.concatenate([self.train.weight, self.valid.weight]))
        shape = len(self.honest.truth), self.classes if self.classes > 2 else 1
        self.honest.raw = {kind: np.full(shape, np.nan) for kind in self.kinds}
        self.members = {kind: [] for kind in self.kinds}

    def run(self, room: Room, listener: Listener | None) -> dict[str, float]:
        """Fit all parts, or as many as the listener wishes; returns each kind's weight.

        The history has a row for each fold, or for each kind where there are no folds; the last tells of the whole.
        """
        began = time.monotonic()
        parts = [Part(kind, number) for number in range(self.folds) for kind in self.kinds]
        with room.progress("training", len(parts)) as bar:
            for done, part in enumerate(parts, start=1):
                self._one(part, partial(bar.update, done - 1))
                bar.update(done)
                if done == len(parts) or (self.folds > 1 and done % len(self.kinds)):
                    continue
                known = self.honest.known()
                row = self._note(self.figures(known.blended(), known), began)
                if listener is not None and listener(len(self.history), row):
                    break
        known = self.honest.known()
        chosen = partial(chosen_weights, known.raw, known.truth, known.weight, self.classes)
        weights: dict[str, float] = self._timed("blend", chosen)
        self._note(self.figures(known.blended(weights), known), began)
        return weights

    def blend(self, weights: Mapping[str, float]) -> Blend:
        """The whole: a kind's weight is shared by its parts."""
        shares = {kind: share / len(self.members[kind]) for kind, share in weights.items() if share}
        kept = [(one, share) for kind, share in shares.items() for one in self.members[kind]]
        return Blend([one for one, _ in kept], [share for _, share in kept])

    def _one(self, part: Part, told: Callable[[str], None]) -> None:
        """Fit a part and let it answer what it never saw."""
        outside = np.flatnonzero(self.fold == part.fold)
        inside = np.flatnonzero(self.fold != part.fold)
        rows = self.weighted.take(inside) if len(outside) else self.weighted
        held_out = self.weighted.take(outside) if len(outside) else self.valid
        held_out = held_out.take(np.flatnonzero(held_out.y >= 0)) if self.classes else held_out
        said = partial(_said, told, part.kind)
        made = self._timed(part.kind, lambda: self.maker.make(part, rows, held_out, said))
        self._timed("answers", lambda: self._answer(part, made, outside))

    def _answer(self, part: Part, made: Fitted, outside: Floats) -> None:
        before = len(self.members[part.kind])
        self.members[part.kind].append(made)
        raw = self.honest.raw[part.kind]
        raw[outside] = made.raw(self.train.x[outside])
        mean, answers = raw[len(self.train) :], made.raw(self.valid.x)
        mean[:] = answers if before == 0 else mean + (answers - mean) / (before + 1)

    def _note(self, figures: dict[str, float], began: float) -> dict[str, float]:
        self.history.append({"epoch": len(self.history) + 1, **figures, "seconds": round(time.monotonic() - began, 3)})
        return self.history[-1]

    def _timed(self, phase: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = work()
        self.spent[phase] = self.spent.get(phase, 0.0) + time.perf_counter() - began
        return found


def _said(told: Callable[[str], None], kind: str, note: str) -> None:
    told(f"{kind}: {note}")
