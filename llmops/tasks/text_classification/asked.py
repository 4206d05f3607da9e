"""Asks the real server every row of a split, and gathers the probabilities of all its labels on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llmops.core.protocols import Server
from llmops.tasks.asking import Answers, ask, together
from llmops.tasks.text_classification.codec import ALTERNATIVES, TextCodec
from llmops.tasks.text_classification.parity import Rows


def ask_all(server: Server, rows: Rows, told: Callable[[int], None]) -> tuple[Answers, np.ndarray[Any, Any]]:
    """The server's answers as a client gets them, and its probabilities, float64 [rows, labels].

    Rows that are timed are asked as clients ask. Where such an answer does not name all labels, those in batches are
    asked for all of them, and the timed ones once more. Raises DataError when the server refuses a row.
    """
    found = Probabilities(rows.labels, len(rows.examples))
    bodies = [{TextCodec.one: text} for text in rows.texts]
    every = {"alternatives": len(rows.labels) - 1} if len(rows.labels) > ALTERNATIVES + 1 else {}

    def many(some: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {TextCodec.many: [body[TextCodec.one] for body in some], **every}

    answers = ask(server, bodies, many, told, found.keep)
    if every:
        for place, response in together(server, bodies, list(answers.latency_ms), many):
            found.keep(place, response)
    return answers, found.values


class Probabilities:
    """What responses say of each label: `values` float64 [rows, labels], 0 for a label that is not named."""

    def __init__(self, labels: Sequence[str], rows: int) -> None:
        self.values = np.zeros((rows, len(labels)))
        self._number = {label: number for number, label in enumerate(labels)}

    def keep(self, place: int, response: Mapping[str, Any]) -> dict[str, Any]:
        """Note a row's probabilities; returns the response with as many alternatives as a client usually gets."""
        self.values[place, self._number[response["best"]]] = response["probability"]
        for other in response["alternatives"]:
            self.values[place, self._number[other["label"]]] = other["probability"]
        return {**response, "alternatives": response["alternatives"][:ALTERNATIVES]}
