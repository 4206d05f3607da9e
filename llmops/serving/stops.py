"""StopText: the text of one answer as it may be shown; what could be the beginning of a stop string is held back."""

from __future__ import annotations

from collections.abc import Sequence

from llmops.core.protocols import TokenText


class StopText:
    """Joins a token decoder with stop strings. No part of a stop string is ever released, however tokens cut it."""

    def __init__(self, writer: TokenText, stops: Sequence[str] = ()) -> None:
        """`stops` are the strings that end the answer; none of them is empty."""
        self._writer, self._stops = writer, tuple(stops)
        self._held = ""
        self.stopped = False
        """Whether a stop string came; nothing is released after it."""
        self.seen = 0
        """Characters that the tokens so far stand for; a stop string and all behind it do not count."""
        self.released = 0
        """Characters released so far."""

    def push(self, token: int) -> str:
        """The text that may be shown now that `token` came."""
        return self._release(self._writer.push(token), last=False)

    def end(self) -> str:
        """What was held back, when no more tokens come."""
        return self._release(self._writer.end(), last=True)

    def _release(self, new: str, last: bool) -> str:
        if self.stopped:
            return ""
        self._held += new
        found = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
        else:
            keep = 0 if last else self._possible()
            text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self.released += len(text)
        self.seen = self.released + len(self._held)
        return text

    def _possible(self) -> int:
        """Length of the longest end of the held text with which a stop string begins."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest
