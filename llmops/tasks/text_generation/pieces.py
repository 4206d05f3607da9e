"""Pieces: tokens back to text, one by one as they come: no half characters, and equal work for every token."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llmops.core.protocols import TokenText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BROKEN = "\ufffd"
LONGEST = 8
"""Tokens that are held back at most while a character is not whole; no character has more bytes than four."""


class Pieces:
    """What each token of a tokenizer says. Special tokens say nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import decoders

        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(number for number, token in added.items() if token.special)
        self._letters = byte_letters() if isinstance(tokenizer.decoder, decoders.ByteLevel) else {}
        self.exact = isinstance(tokenizer.decoder, decoders.ByteLevel | decoders.Fuse)
        """Whether a token has the same bytes wherever it stands."""
        self._known: dict[int, bytes] = {}

    def raw(self, token: int) -> bytes:
        """The bytes of a token's text; only where `exact`."""
        if token not in self._known:
            self._known[token] = b"" if token in self.special else self._bytes(self.tokenizer.id_to_token(token) or "")
        return self._known[token]

    def _bytes(self, name: str) -> bytes:
        """A byte-level token's name has a letter for each byte; a token that was added may hold other letters."""
        if self._letters and all(letter in self._letters for letter in name):
            return bytes(self._letters[letter] for letter in name)
        return name.encode()

    def every(self, count: int) -> list[bytes]:
        """The bytes of the tokens 0 to `count`; empty for special and added ones. Raises ValueError when this kind of
        tokenizer has none that hold everywhere."""
        added = self.tokenizer.get_added_tokens_decoder()
        known = min(count, self.tokenizer.get_vocab_size())
        told = self.raw if self.exact else self._told_by_library()
        ordinary = [b"" if token in added else told(token) for token in range(known)]
        return ordinary + [b""] * (count - known)

    def _told_by_library(self) -> Callable[[int], bytes]:
        """For tokenizers of SentencePiece's kind: byte by byte where a character is unknown, `▁` for a space."""
        from llguidance import LLTokenizer

        told = LLTokenizer(self.tokenizer.to_str())
        return lambda token: told.decode_bytes([token])

    def writer(self) -> TokenText:
        """A fresh decoder for one answer."""
        return _ByteText(self) if self.exact else _WindowText(self)

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, as a writer would give it."""
        writer = self.writer()
        return "".join([*(writer.push(token) for token in tokens), writer.end()])

    def name(self, token: int) -> str:
        """One token as people may read it: special tokens by their name, bytes that are no whole characters as
        `bytes:\\xe4\\xbd`."""
        if token in self.special:
            return self.tokenizer.id_to_token(token) or ""
        if not self.exact:
            return self.tokenizer.decode([token])
        try:
            return self.raw(token).decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.raw(token))


class _ByteText:
    """Tokens whose bytes are known: the bytes of an unfinished character wait."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._pieces.raw(token))

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class _WindowText:
    """Any other tokenizer: a token is decoded with the few before it, since spaces depend on what comes before."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._before: list[int] = []
        self._held: list[int] = []

    def push(self, token: int) -> str:
        if token in self._pieces.special:
            return ""
        self._held.append(token)
        new = self._new()
        return self._given(new) if len(self._held) >= LONGEST or (new and not new.endswith(BROKEN)) else ""

    def end(self) -> str:
        return self._given(self._new())

    def _new(self) -> str:
        decode = self._pieces.tokenizer.decode
        return str(decode(self._before + self._held)[len(decode(self._before)) :])

    def _given(self, new: str) -> str:
        self._before, self._held = self._held, []
        return new


def byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in byte-level vocabularies (Radford et al. 2019): a printable byte's own
    character, and for the others those from U+0100 on, in the order of the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + number): byte for number, byte in enumerate(others)}
