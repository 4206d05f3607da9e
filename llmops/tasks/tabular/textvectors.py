"""Free text in a table as a few numbers: themes, found in the words of the training rows (latent semantic analysis,
Deerwester et al. 1990), and how many words there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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
        _, vectors = np.linalg.eigh(matrix.T @ matrix)
        directions = vectors[:, ::-1][:, :themes].T
        signs = np.sign(directions[np.arange(themes), np.abs(directions).argmax(axis=1)])  # else they are arbitrary
        return cls(rarity, np.round(directions * signs[:, None], DIGITS).tolist())

    def fill(self, out: np.ndarray[Any, Any], column: np.ndarray[Any, Any]) -> None:
        """The number of words, then the themes; NaN where the text is missing."""
        told = [None if value is None else words(value) for value in column]
        out[:, 0] = [np.nan if found is None else len(found) for found in told]
        if not self.directions:
            return
        bags = self._bags([set(found or ()) for found in told])
        out[:, 1:] = bags @ np.array(self.directions, np.float32).T
        out[[found is None for found in told], 1:] = np.nan

    def _bags(self, texts: list[set[str]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 [texts, words], rows of length 1."""
        number = {word: place for place, word in enumerate(self.vocabulary)}
        weights = list(self.vocabulary.values())
        made = np.zeros((len(texts), len(number)), np.float32)
        for row, found in enumerate(texts):
            for word in found:
                if (place := number.get(word)) is not None:
                    made[row, place] = weights[place]
        return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9).astype(np.float32)
