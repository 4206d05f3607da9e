"""GuardedTokenizer: text to tokens, in which names of special tokens that a user wrote stay letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GUARD, OPEN, CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
"""Code points that Unicode keeps free of characters, so marks that no text holds."""
MARKS = re.compile(f"[{GUARD}{OPEN}{CLOSE}]")
NOTHING = re.compile("(?!)")


class GuardedTokenizer:
    """A tokenizer that reads a special token only where a template wrote it. A guard is a mark inside the token's name;
    the text is cut there, and the pieces are read one by one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`tokenizer` is changed (no padding, no begin token, offsets of every character): give a copy."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.post_processor = None
        self.tokenizer = tokenizer
        added = list(tokenizer.get_added_tokens_decoder().values())
        self._special = any_of(token.content for token in added if token.special)
        self.added = any_of(token.content for token in added)
        """Matches the name of any token that was added to the vocabulary."""
        self.added_ids = frozenset(tokenizer.get_added_tokens_decoder())

    def guard(self, text: str) -> str:
        """`text` with a mark inside every name of a special token."""
        return self._special.sub(_parted, MARKS.sub("", text))

    def tokens(self, guarded: str) -> list[int]:
        """Tokens of a guarded text."""
        encoded = (self.tokenizer.encode(piece, add_special_tokens=False) for piece in guarded.split(GUARD))
        return [token for encoding in encoded for token in encoding.ids]

    def letters(self, text: str) -> list[int]:
        """Tokens of a text in which nothing is the name of a token that was added."""
        return self.tokens(self.added.sub(_parted, MARKS.sub("", text)))

    def encode(self, guarded: str) -> tuple[list[int], list[int]]:
        """Tokens of a guarded text, and the character each begins at, guards not counted."""
        tokens: list[int] = []
        starts: list[int] = []
        shift = 0
        for piece in guarded.split(GUARD):
            encoding = self.tokenizer.encode(piece, add_special_tokens=False)
            tokens += encoding.ids
            starts += [start + shift for start, _ in encoding.offsets]
            shift += len(piece)
        return tokens, starts

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts that no template wrote: all of it is letters."""
        pieces = [self.guard(text).split(GUARD) for text in texts]
        flat = [piece for parts in pieces for piece in parts]
        encoded = iter(self.tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        return [[token for encoding in islice(encoded, len(parts)) for token in encoding.ids] for parts in pieces]


def _parted(name: re.Match[str]) -> str:
    return name[0][0] + GUARD + name[0][1:]


def bare(guarded: str, place: int) -> int:
    """A place in a guarded text, guards not counted."""
    return place - guarded.count(GUARD, 0, place)


def any_of(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of these texts, the longest first; one that never matches when there is none."""
    ordered = sorted({name for name in names if name}, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else NOTHING
