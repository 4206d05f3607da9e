"""Figures of written answers beside the right ones: exact match, chrF, ROUGE-L."""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|"
    "[^\\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
"""A word; in scripts that put no space between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese), a character."""


def text_figures(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """{"exact_match", "chrf", "rouge_l"} of answers against one reference each. Raises ValueError when there is none,
    or not one for each."""
    return {
        "exact_match": exact_match(answers, references),
        "chrf": chrf(answers, references),
        "rouge_l": rouge_l(answers, references),
    }


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers that equal their reference, case and white space aside."""
    same = [_folded(one) == _folded(other) for one, other in _together(answers, references)]
    return sum(same) / len(same)


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """chrF over all answers (Popovic 2015; sacrebleu's, n-grams of 1 to 6 characters, beta 2), 0 to 100."""
    from sacrebleu import corpus_chrf

    _together(answers, references)
    return float(corpus_chrf(list(answers), [list(references)]).score)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F1 (Lin 2004), 0 to 1. Words are lower-cased and not stemmed; the package rouge-score rests since
    2022 and drops every letter that is not ASCII."""
    scores = [_f1(_words(one), _words(other)) for one, other in _together(answers, references)]
    return sum(scores) / len(scores)


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, with the bits of one integer for a row of the table (Hyyro 2004)."""
    masks: dict[str, int] = {}
    for place, word in enumerate(one):
        masks[word] = masks.get(word, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        hit = row & masks.get(word, 0)
        row = ((row + hit) | (row - hit)) & every
    return len(one) - row.bit_count()


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    shared = common(answer, reference)
    return 2 * shared / (len(answer) + len(reference)) if shared else 0.0


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _together(answers: Sequence[str], references: Sequence[str]) -> list[tuple[str, str]]:
    if not answers:
        raise ValueError("there is no answer to measure")
    return list(zip(answers, references, strict=True))
