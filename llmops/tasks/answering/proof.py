"""Proves a bundle through the real server: every held-out question, beside its answers and the trained model's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.intervals import wilson
from llmops.core.protocols import Learner, Proof, Room, Server
from llmops.core.report import Number, Passage, Table
from llmops.tasks.answering.assess import abstention, scores_of
from llmops.tasks.answering.codec import AnsweringSettings
from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.ranking import DEPTH, figures
from llmops.tasks.answering.truth import Truth, held_out
from llmops.tasks.answering.wordings import add_wordings
from llmops.tasks.asking import Answers, ask

SHOWN = 10
SHOWN_ANSWERS = 3
SHORT = 90


def listed(said: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(entry, score) of what a response names, the best first."""
    return [(said["entry"], said["score"]), *((one["entry"], one["score"]) for one in said["alternatives"])]


def prove(
    section: AnsweringSection, dataset: Path, bundle: Path, server: Server, learner: Learner, room: Room
) -> Proof:
    """Ask the server every held-out question, and compare its answers with the right ones and the trained model's.

    Raises DataError when there is no row, or the server refuses one.
    """
    found = held_out(dataset)
    if not found.rows:
        raise DataError("there is no test row and no validation row", str(dataset), "run prepare again")
    bodies = [{"question": question, "top": DEPTH, "phrase": False} for question in found.questions]
    with room.progress("asking the server", len(found.rows)) as bar:
        answers = ask(server, bodies, None, bar.update)  # a generator is not asked
    settings = AnsweringSettings.model_validate(json.loads((bundle / "bundle.json").read_bytes())["settings"])
    trained = scores_of(section, found, learner.predict(dataset, found.split))
    seen = Seen(found, answers, trained)
    numbers = seen.numbers(settings)
    proof = Proof(
        headline=headline(numbers),
        numbers=numbers,
        tables=[seen.misses()],
        passages=seen.passages(),
        lines=seen.lines(),
        split=found.split,
    )
    if section.phrase is not None:
        given = [question for question, said in zip(found.questions, answers.responses, strict=True) if said["answer"]]
        add_wordings(proof, section.phrase, given, server, room)
    return proof


class Seen:
    """Held-out rows with the server's answers to them; `trained` are the trained model's scores [rows, entries]."""

    def __init__(self, found: Truth, answers: Answers, trained: np.ndarray[Any, Any]) -> None:
        self.found, self.answers = found, answers
        self.ids = [one.id for one in found.entries]
        self.right = [{self.ids[number] for number in entries} for entries in found.right]
        self.served = [listed(answers.responses[row])[0][0] for row in range(len(found.rows))]
        self.trained = [self.ids[int(row.argmax())] for row in trained]
        self.trained_scores = trained
        self.ranks = np.array([self.rank(row) for row in range(len(found.rows))])

    def rank(self, row: int) -> int:
        """Rank of the first right entry that the response names; 0 when it names none."""
        named = enumerate(listed(self.answers.responses[row]), 1)
        return next((rank for rank, (entry, _) in named if entry in self.right[row]), 0)

    def numbers(self, settings: AnsweringSettings) -> dict[str, Number]:
        """Everything that gates and people ask for."""
        told = figures(self.ranks)
        low, high = wilson(told["recall_at_1"], len(self.ranks))
        return {
            "rows": len(self.ranks),
            "entries": len(self.ids),
            **told,
            "recall_at_1_low": low,
            "recall_at_1_high": high,
            "recall_at_1_trained": float(np.mean([a in b for a, b in zip(self.trained, self.right, strict=True)])),
            **self.abstention(settings),
            "threshold": settings.threshold,
            "parity": float(np.mean([a == b for a, b in zip(self.served, self.trained, strict=True)])),
            "score_difference": self.score_difference(),
            **self.answers.latency(),
        }

    def abstention(self, settings: AnsweringSettings) -> dict[str, Number]:
        """What the threshold does to these questions, and to the same ones without their right entries."""
        answered = np.array([not said["abstained"] for said in self.answers.responses])
        left = [self.best_wrong(row) for row in range(len(self.ranks))]
        withheld = np.array([settings.confidence(score) < settings.threshold for score in left])
        return abstention(answered, self.ranks == 1, withheld)

    def best_wrong(self, row: int) -> float:
        """The score of the best entry that is not right, among those that the response names."""
        named = listed(self.answers.responses[row])
        return next((score for entry, score in named if entry not in self.right[row]), named[-1][1])

    def score_difference(self) -> float:
        """The largest difference between a score that the server named and the trained model's."""
        number = {entry: place for place, entry in enumerate(self.ids)}
        pairs = (
            abs(score - float(self.trained_scores[row, number[entry]]))
            for row in range(len(self.ranks))
            for entry, score in listed(self.answers.responses[row])
        )
        return max(pairs, default=0.0)

    def misses(self) -> Table:
        """Questions whose right entry came late or not at all, the surest mistakes first."""
        wrong = sorted(
            (place for place, rank in enumerate(self.ranks) if rank != 1),
            key=lambda place: -self.answers.responses[place]["confidence"],
        )
        entries = self.found.entries
        rows: list[list[Number]] = [
            [
                short(self.found.questions[place]),
                short(entries[min(self.found.right[place])].text) if self.found.right[place] else None,
                short(entries[self.ids.index(self.served[place])].text),
                int(self.ranks[place]) or None,
                round(self.answers.responses[place]["confidence"], 3),
            ]
            for place in wrong[:SHOWN]
        ]
        columns = ["question", "right entry", "first entry", "rank of the right one", "confidence"]
        return Table(f"Right entry not first ({len(wrong):,} of {len(self.ranks):,} questions)", columns, rows)

    def passages(self) -> list[Passage]:
        """A few questions with what the server answered."""
        shown = []
        for row, said in list(zip(self.found.rows, self.answers.responses, strict=True))[:SHOWN_ANSWERS]:
            source = f"  [{said['source']}]" if said["source"] else ""
            words = "(abstains)" if said["abstained"] else f"{said['answer']}{source}"
            pieces = [(f"{row['text']}\n", False), (words, True)]
            shown.append(Passage(f"confidence {said['confidence']:.2f}", pieces))
        return shown

    def lines(self) -> list[dict[str, Any]]:
        """Each row's answer beside the right entries and the trained model's."""
        return [
            {
                "id": row["id"], "true": sorted(self.right[place]), "best": self.served[place],
                "trained": self.trained[place], "rank": int(self.ranks[place]), "score": said["score"],
                "confidence": said["confidence"], "abstained": said["abstained"],
                "latency_ms": self.answers.latency_ms.get(place),
            }
            for place, (row, said) in enumerate(zip(self.found.rows, self.answers.responses, strict=True))
        ]  # fmt: skip


def headline(numbers: Mapping[str, Any]) -> str:
    """One sentence without its end: the stage adds the size."""
    n = numbers
    return (
        f"Through the real server: recall@1 {n['recall_at_1']:.3f} (95 % interval {n['recall_at_1_low']:.3f} to "
        f"{n['recall_at_1_high']:.3f}), recall@5 {n['recall_at_5']:.3f}, MRR {n['mrr']:.3f} on {n['rows']} questions "
        f"over {n['entries']} entries, the trained model's entry on {100 * n['parity']:.1f} %, "
        f"p95 {n['latency_p95_ms']:.1f} ms"
    )


def short(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHORT else line[: SHORT - 1] + "\u2026"
