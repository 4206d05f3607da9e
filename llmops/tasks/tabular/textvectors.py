"""Free text in a table as a few numbers: themes, found in the words of the training rows (latent semantic analysis,
Deerwester et al. 1990), and how many words there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from llmops.fields.domain import words

THEMES = 16
VOCABULARY = 2000
"""Words at most, the most frequent ones."""
FEWEST = 5
"""Texts that a word must stand in."""
FITTED = 20_000
"""Texts that themes are found in, at most."""
DIGITS = 5
NOISE = 1e-4
"""Themes that explain less than this share of the first one are left out."""


@dataclass(frozen=True)
class TextVectors:
    """`vocabulary`: word -> its weight (rarity); `directions`: themes, each one number a word, in that order."""

    vocabulary: dict[str, float]
    directions: list[list[float]]

    @classmethod
    def fit(cls, column: np.ndarray[Any, Any]) -> TextVectors:
        """Themes of a column of texts (None: missing)."""
        texts = [set(words(value)) for value in column if value is not None]
        texts = texts[:: max(1, len(texts) // FITTED)]
        counts = Counter(word for found in texts for word in found)
        kept = [word for word, n in counts.most_common(VOCABULARY) if n >= FEWEST]
        rarity = {word: round(float(np.log((1 + len(texts)) / (1 + counts[word]))), DIGITS) for word in kept}
        themes = min(THEMES, len(kept) - 1, len(texts) - 1)
        if themes < 1:
            return cls({}, [])
        matrix = cls(rarity, [])._bags(texts)
        sizes, vectors = np.linalg.eigh(matrix.T @ matrix)
        kept_sizes = sizes[::-1][:themes]
        directions = vectors[:, ::-1][:, :themes].T[kept_sizes > NOISE * kept_sizes[0]]
        signs = np.sign(
            directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
        )  # else they are arbitrary
        return cls(rarity, np.round(directions * signs[:, None], DIGITS).tolist())

    def fill(self, out: np.ndarray[Any, Any], column: np.ndarray[Any, Any]) -> None:
        """The number of words, then the themes; NaN where the text is missing.

        Each text is summed up by itself, its words in a fixed order: a matrix product's last digits depend on how many
        rows it has, and a tree would send the same text left in training and right in the server.
        """
        told: dict[Any, np.ndarray[Any, Any]] = {}
        for row, value in enumerate(column):
            if value not in told:
                told[value] = self._told(value)
            out[row] = told[value]

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.vocabulary)}

    @cached_property
    def _themes(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """float64 [words, themes], and the words' weights [words]."""
        weights = np.array(list(self.vocabulary.values()), np.float64)
        return np.array(self.directions, np.float64).T * weights[:, None], weights

    def _told(self, value: Any) -> np.ndarray[Any, Any]:
        made = np.zeros(1 + len(self.directions))
        if value is None:
            return np.full(len(made), np.nan)
        found = words(value)
        made[0] = len(found)
        known = sorted(self._number[word] for word in set(found) if word in self._number)
        if self.directions and known:
            themes, weights = self._themes
            made[1:] = themes[known].sum(axis=0) / max(float(np.sqrt((weights[known] ** 2).sum())), 1e-9)
        return made

    def _bags(self, texts: list[set[str]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 [texts, words], rows of length 1."""
        weights = list(self.vocabulary.values())
        made = np.zeros((len(texts), len(weights)), np.float32)
        for row, found in enumerate(texts):
            for word in found:
                if (place := self._number.get(word)) is not None:
                    made[row, place] = weights[place]
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        return np.asarray(made / np.maximum(lengths, 1e-9), np.float32)
