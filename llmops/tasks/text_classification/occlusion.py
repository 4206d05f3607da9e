"""Which words an answer hangs on: the text is asked again without each of them (occlusion; Zeiler and Fergus 2014). No
torch here."""

from __future__ import annotations

import re
from itertools import pairwise

WORD = re.compile(r"\S+")
MOST = 40
"""Parts of a text at most: of longer ones several words together are one."""
Span = tuple[int, int]


def parts(text: str, most: int = MOST) -> list[Span]:
    """The words of a text, as (start, end) in characters; of many, runs of neighbours."""
    words = [found.span() for found in WORD.finditer(text)]
    count = min(len(words), most)
    cuts = [round(place * len(words) / count) for place in range(count + 1)] if count else [0]
    return [(words[start][0], words[end - 1][1]) for start, end in pairwise(cuts)]


def without(text: str, span: Span) -> str:
    """The text without a part of it; where nothing would be left, a mark that says nothing."""
    left = f"{text[: span[0]]}{text[span[1] :]}"
    return left if left.strip() else "..."
