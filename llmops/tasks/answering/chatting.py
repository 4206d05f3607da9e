"""A question that is a turn of a chat: how it is read with the turn before, and how its answer is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from llmops.core.protocols import Cited, Reply
from llmops.tasks.answering.config import ChatSection
from llmops.tasks.answering.messages import AnsweringRequest, AnsweringResponse


@dataclass(frozen=True)
class Turn:
    """The user's last turn, and the one before it where there is one; it waits in the same batches as questions."""

    text: str
    before: str | None = None

    @cached_property
    def readings(self) -> list[AnsweringRequest]:
        """What it may mean: its words alone; joined to the turn before; and, to compare with, that turn alone."""
        if self.before is None:
            return [AnsweringRequest(question=self.text)]
        return [AnsweringRequest(question=text) for text in (self.text, f"{self.before}\n{self.text}", self.before)]

    @property
    def texts(self) -> tuple[str, ...]:
        """What the encoder reads for it."""
        return tuple(one.question for one in self.readings)


def followed(found: Sequence[AnsweringResponse]) -> int:
    """Which of a turn's readings is answered. The turn's own words come first. Where nothing fits them, they may be a
    follow-up ("and abroad?"): then both turns together, if they find what the turn before did not find by itself. Else
    the turn before alone would be answered once more, whatever was asked now (20 questions about other things, each
    after 20 of the shipped held-out ones: 87 of 400 are answered when turns are just joined, 4 by this rule).
    """
    if len(found) == 1 or not found[0].abstained:
        return 0
    _, joined, before = found
    return int(not joined.abstained and (before.abstained or joined.entry != before.entry))


def reply(request: AnsweringRequest, response: AnsweringResponse, settings: ChatSection) -> Reply:
    """The answer as a chat's message: its words, and the source where there is one."""
    words, source = response.words, response.source
    if words is None:
        return Reply(request, response, settings.unknown, ())
    if source is None:
        return Reply(request, response, words, ())
    if settings.source is None:
        return Reply(request, response, words, (Cited(source, 0, len(words)),))
    told = f"{words}\n\n{settings.source} {source}"
    return Reply(request, response, told, (Cited(source, len(told) - len(source), len(told)),))
