"""BM25 over the entries of an index: the baseline to beat, and the part of a score that sees exact words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

K1 = 1.5
"""How soon a word's count in an entry stops to matter (Robertson and Zaragoza 2009)."""
B = 0.75
"""How much long entries are held back."""
WORD = re.compile(r"\w+")
WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
"""Runs of scripts that put no space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def words(text: str) -> list[str]:
    """The words of a text, case folded; where a script puts no space between words, its pairs of characters."""
    return list(_words(text.casefold()))


def _words(text: str) -> Iterator[str]:
    for found in WORD.findall(text):
        if not WITHOUT_SPACES.search(found):
            yield found
            continue
        yield from (part for part in WITHOUT_SPACES.sub(" ", found).split())
        for run in WITHOUT_SPACES.findall(found):
            yield from (run[place : place + 2] for place in range(max(1, len(run) - 1)))


class Lexical:
    """BM25 (Robertson and Zaragoza 2009) in Lucene's form, the postings weighted beforehand (Lu 2024)."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        self.entries = len(counts)
        lengths = np.array([count.total() for count in counts], np.float64)
        norm = K1 * (1.0 - B + B * lengths / max(1e-9, lengths.mean() if len(lengths) else 0.0))
        found: dict[str, tuple[list[int], list[int]]] = {}
        for entry, count in enumerate(counts):
            for word, times in count.items():
                places, tallies = found.setdefault(word, ([], []))
                places.append(entry)
                tallies.append(times)
        self.postings: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        for word, (places, tallies) in found.items():
            at, often = np.array(places, np.int64), np.array(tallies, np.float64)
            self.postings[word] = at, self.rarity(len(places)) * often / (often + norm[at])

    def rarity(self, entries: int) -> float:
        """Inverse document frequency of a word that so many entries have."""
        return math.log(1.0 + (self.entries - entries + 0.5) / (entries + 0.5))

    def spread(self, word: str) -> int:
        """How many entries have the word."""
        return len(self.postings[word][0]) if word in self.postings else 0

    def scores(self, question: str) -> np.ndarray[Any, Any]:
        """BM25 of every entry, float64 [entries]."""
        scores = np.zeros(self.entries)
        for word in words(question):
            if word in self.postings:
                places, weights = self.postings[word]
                scores[places] += weights
        return scores

    def shares(self, questions: Sequence[str]) -> np.ndarray[Any, Any]:
        """BM25 as a share of the most that the question's words could bring, float32 [questions, entries], 0 to 1.

        Unlike a score divided by the best entry's it says how well anything fits: a question about something else
        is full of words that no entry has, which count as the rarest.
        """
        table = np.zeros((len(questions), self.entries), np.float32)
        for row, question in enumerate(questions):
            most = sum(self.rarity(self.spread(word)) for word in words(question))
            if most > 0:
                table[row] = self.scores(question) / most
        return table
