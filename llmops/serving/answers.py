"""Answers: the answers to one request on their way to its client, and what the traffic log will say of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops.serving.calls import CallReader, Grown
from llmops.serving.logprobs import Named
from llmops.serving.openaianswer import Shape, event, usage
from llmops.serving.openaibody import Wish
from llmops.serving.openailogprobs import ChatLogprobs, LegacyLogprobs, merged
from llmops.serving.prompting import Desk
from llmops.serving.stream import Piece, Stream, together


@dataclass
class Answer:
    """One answer as far as it has come."""

    logprobs: ChatLogprobs | LegacyLogprobs | None
    """None: nobody asked how likely its tokens are."""
    reader: CallReader | None
    """Takes calls of tools out of it; None where there are no tools."""
    texts: list[str] = field(default_factory=list)
    """What the model wrote, its calls as words among it."""
    words: list[str] = field(default_factory=list)
    """What is told as words."""
    said: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0
    """Tokens."""
    finish: str | None = None

    def grow(self, piece: Piece) -> tuple[list[Grown], dict[str, Any] | None]:
        """Take in what the model wrote; what there is to tell, and the probabilities of its tokens."""
        self.texts.append(piece.text)
        self.written = piece.written
        if self.reader is None:
            grown = [Grown(words=piece.text)] if piece.text else []
        else:
            grown = self.reader.push(piece.text) + (self.reader.end() if piece.finish else [])
        called = self.reader is not None and self.reader.calls
        self.finish = "tool_calls" if called and piece.finish == "stop" else piece.finish
        self.words += [one.words for one in grown]
        told = None if self.logprobs is None else self.logprobs.add(piece.tokens)
        self.said += [told] if told else []
        return grown, told


@dataclass
class Answers:
    """The answers to one request."""

    wish: Wish
    desk: Desk
    shape: Shape
    prompt: list[int]
    streams: list[Stream]
    """One for each; none when nothing is to be written: the prompt is only echoed."""
    echoed: list[Named] | None
    """Probabilities of the prompt's tokens but the first, when they were asked for."""
    logged: bool = False
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        streams: Sequence[Stream | None] = self.streams or [None] * self.wish.count
        self.each = [self._begun(stream) for stream in streams]
        """The answers, as far as they have come."""

    def _begun(self, stream: Stream | None) -> Answer:
        """An answer before the model writes: the echo is all it has."""
        codec, wish, reader, logprobs = self.desk.codec, self.wish, None, None
        if wish.wanted is not None and wish.wanted.tools:
            names = [tool.name for tool in wish.wanted.tools]
            reader = CallReader(codec.call_marks, names, held=stream is not None and stream.ask.form is not None)
        if wish.top is not None:
            logprobs = ChatLogprobs(codec) if self.shape.chat else LegacyLogprobs(codec)
        answer = Answer(logprobs, reader)
        if wish.echo:
            answer.words.append(self.prompt_text)
        if wish.echo and isinstance(logprobs, LegacyLogprobs):
            answer.said.append(logprobs.add(self.echoed or (), self.prompt[0]))
        if stream is None:
            answer.finish = "length"
        return answer

    @property
    def prompt_text(self) -> str:
        """What a completion goes on from, as text."""
        prompt = self.wish.prompt
        return prompt if isinstance(prompt, str) else self.desk.codec.text(self.prompt)

    @property
    def counts(self) -> dict[str, int]:
        """Tokens read and written."""
        return usage(len(self.prompt), sum(answer.written for answer in self.each))

    @property
    def complete(self) -> bool:
        """Whether every answer came to its end."""
        return all(answer.finish for answer in self.each)

    async def whole(self) -> dict[str, Any]:
        """The response when all of it is there."""
        if self.streams:
            async for index, piece in together(self.streams):
                self.each[index].grow(piece)
        choices = [
            self.shape.choice(
                index, "".join(answer.words), answer.reader.calls if answer.reader else (),
                answer.finish or "length", merged(answer.said),
            )
            for index, answer in enumerate(self.each)
        ]  # fmt: skip
        return self.shape.whole(choices, self.counts)

    async def events(self) -> AsyncIterator[bytes]:
        """The events of a stream but its last, as the pieces come; at the latest before a client reads how the last
        answer ended, `complete` holds."""
        counted = self.wish.include_usage
        for index, answer in enumerate(self.each):
            if self.shape.chat:
                yield event(self.shape.first(index, counted))
            elif answer.words or answer.said or answer.finish:
                told = merged(answer.said)
                yield event(self.shape.part(index, "".join(answer.words), answer.finish, told, counted))
        if self.streams:
            async for index, piece in together(self.streams):
                grown, told = self.each[index].grow(piece)
                for one in self._parts(index, grown, told, self.each[index].finish):
                    yield event(one)
        if counted:
            yield event(self.shape.counts(self.counts))

    def _parts(
        self, index: int, grown: list[Grown], told: dict[str, Any] | None, finish: str | None
    ) -> list[dict[str, Any]]:
        """What one answer grew by; how it ended is told with the last words of a completion, and after a chat's."""
        counted, reader = self.wish.include_usage, self.each[index].reader
        if not self.shape.chat:
            words = "".join(one.words for one in grown)
            return [self.shape.part(index, words, finish, told, counted)] if words or told or finish else []
        parts = []
        for one in grown:
            if one.words or reader is None:
                parts.append(self.shape.part(index, one.words, None, None, counted))
            else:
                begun = reader.calls[one.number] if one.begins else None
                parts.append(self.shape.call_part(index, one.number, begun, one.arguments, counted))
        if told is not None:
            parts = parts or [self.shape.part(index, "", None, None, counted)]
            parts[0]["choices"][0]["logprobs"] = told
        return parts + ([self.shape.part(index, "", finish, None, counted)] if finish else [])

    def leave(self) -> None:
        """Give the slots back; nothing happens when all answers are complete."""
        for stream, answer in zip(self.streams, self.each, strict=False):
            if answer.finish is None:
                self.desk.scheduler.cancel(stream)

    def cancelled(self) -> bool:
        """Note that nobody reads on; whether somebody has read something that was not complete."""
        begun = any(answer.texts for answer in self.each) and not self.complete
        for answer in self.each:
            answer.finish = answer.finish or "cancelled"
        return begun

    def failed(self) -> None:
        """Give the slots back, and note that the model made a mistake."""
        self.leave()
        for answer in self.each:
            answer.finish = answer.finish or "error"

    def request(self) -> dict[str, Any]:
        """What was asked, for the log."""
        if self.wish.messages is None:
            return {"prompt": self.prompt_text}
        return {"messages": self.wish.messages} | ({"tools": self.wish.tools} if self.wish.tools else {})

    def response(self) -> dict[str, Any]:
        """What was answered, for the log: calls as the words that training rows have for them. Several answers stand as
        OpenAI's `choices`: nobody who speaks about the request says which he means."""
        firsts = [stream.first_s for stream in self.streams if stream.first_s is not None]
        told = {**self.counts, "first_token_ms": round(min(firsts) * 1000, 1) if firsts else None}
        if len(self.each) == 1:
            return {"answer": "".join(self.each[0].texts), "finish_reason": self.each[0].finish, **told}
        choices = [
            {"message": {"content": "".join(answer.texts)}, "finish_reason": answer.finish} for answer in self.each
        ]
        return {"choices": choices, **told}
