"""Chat: conversations to tokens, and which of these are the assistant's words. One code for training and serving."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from llmops.tasks.text_generation.guard import CLOSE, OPEN, GuardedTokenizer, bare
from llmops.tasks.text_generation.template import ChatTemplate
from llmops.tasks.text_generation.turns import greeting_within, in_turns, opening

Messages = Sequence[Mapping[str, str]]
ANSWER = re.compile(f"{OPEN}[^{CLOSE}]*{CLOSE}")


@dataclass(frozen=True)
class Marked:
    """A conversation as tokens. `trained` says for each whether the assistant wrote it, its end of turn included;
    `answer` is the number of tokens before the last answer. `alike`: a server that is asked for this answer begins
    with exactly these tokens."""

    tokens: list[int]
    trained: list[bool]
    answer: int
    alike: bool


class Chat:
    """A tokenizer, a chat template, and what joins turns of one role (see turns.in_turns; None: nothing)."""

    def __init__(self, tokenizer: GuardedTokenizer, template: ChatTemplate, join: str | None = None) -> None:
        self.tokenizer, self.template, self.join = tokenizer, template, join

    def tokens(self, messages: Messages) -> list[int]:
        """The tokens of a conversation up to where the assistant's answer begins. Raises ValueError when nobody says a
        word, or the template refuses it."""
        return self.tokenizer.tokens(self.template.render(self._guarded(messages), generate=True))

    @cached_property
    def greets(self) -> bool:
        """Whether the template writes an assistant's message before the user's first: some refuse, or leave it out."""
        said = [{"role": "assistant", "content": OPEN}, {"role": "user", "content": CLOSE}]
        try:
            return OPEN in self.template.render(said, generate=True)
        except ValueError:
            return False

    def marked(self, messages: Messages) -> Marked:
        """A conversation that ends with an answer, cut off after it, with the assistant's tokens marked; a greeting
        before the user's first words is none of them.

        Answers are found by rendering the conversation again with marks around them; where each begins, by rendering
        what comes before it as the server would: words that the template writes between the two (an empty thought,
        say) are the assistant's to write. Raises ValueError when the template refuses the conversation, changes an
        answer's words, or writes no special token after one.
        """
        guarded = self._guarded(messages)
        full = self.template.render(guarded, generate=False)
        spans = [self._turn(full, span) for span in self._answers(guarded, full)]
        asked = opening(guarded)
        turns = [place for place, one in enumerate(guarded) if one["role"] == "assistant" and place > asked]
        prompts = [self.template.render(guarded[:place], generate=True) for place in turns]
        spans = [
            (len(prompt), end) if len(prompt) <= start and full.startswith(prompt) else (start, end)
            for prompt, (start, end) in zip(prompts, spans[len(spans) - len(turns) :], strict=True)
        ]
        tokens, starts = self.tokenizer.encode(full[: spans[-1][1]])
        places = [(bare(full, start), bare(full, end)) for start, end in spans]
        trained = [False] * len(tokens)
        for first, last in places:
            inside = slice(bisect_left(starts, first), bisect_left(starts, last))
            trained[inside] = [True] * (inside.stop - inside.start)
        answer = bisect_left(starts, places[-1][0])
        return Marked(tokens, trained, answer, self._alike(prompts[-1], full[: spans[-1][0]], tokens[:answer]))

    def head(self, messages: Messages) -> int:
        """How many tokens come before the user's first words: the system's and the template's own. 0 when the template
        changes these words, so that they cannot be told from its own."""
        guarded = self._guarded(messages)
        at, full = opening(guarded), self.template.render(guarded, generate=False)
        user = {**guarded[at], "content": OPEN + guarded[at]["content"]}
        opened = self.template.render([*guarded[:at], user, *guarded[at + 1 :]], generate=False)
        if opened.count(OPEN) != 1 or opened.replace(OPEN, "") != full:
            return 0
        _, starts = self.tokenizer.encode(full)
        return bisect_left(starts, bare(full, opened.index(OPEN)))

    def end_of_turn(self) -> str:
        """The special token that ends an answer. Raises ValueError as `marked` does."""
        exchange = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        full = self.template.render(exchange, generate=False)
        [(start, end)] = self._answers(exchange, full)
        return full[end : self._turn(full, (start, end))[1]].strip()

    def _answers(self, guarded: Sequence[dict[str, str]], full: str) -> list[tuple[int, int]]:
        """Where each of the assistant's contents stands in the rendered text."""
        opened = [
            {**message, "content": f"{OPEN}{message['content']}{CLOSE}"} if message["role"] == "assistant" else message
            for message in guarded
        ]
        rendered = self.template.render(opened, generate=False)
        found = [match.span() for match in ANSWER.finditer(rendered)]
        if rendered.replace(OPEN, "").replace(CLOSE, "") != full or len(found) != sum(
            message["role"] == "assistant" for message in guarded
        ):
            raise ValueError(
                "the chat template changes the words of an answer, so that they cannot be told from its own"
            )
        return [(start - 2 * number, end - 2 * number - 2) for number, (start, end) in enumerate(found)]

    def _alike(self, prompt: str, rendered: str, before: list[int]) -> bool:
        """Whether `before`, the tokens of what is `rendered` before an answer, are those of the prompt asking for it.
        A token that was added to the vocabulary parts its left from its right, so then there is nothing to count."""
        if prompt != rendered:
            return False
        return (bool(before) and before[-1] in self.tokenizer.added_ids) or self.tokenizer.tokens(prompt) == before

    def _turn(self, full: str, answer: tuple[int, int]) -> tuple[int, int]:
        """An answer with the token that ends its turn."""
        start, end = answer
        found = self.tokenizer.added.match(full, len(full) - len(full[end:].lstrip()))
        if found is None:
            raise ValueError(
                "the chat template writes no special token after an answer; a model could not learn to stop"
            )
        return start, found.end()

    def _guarded(self, messages: Messages) -> list[dict[str, str]]:
        """The conversation in an order that the template writes, names of special tokens guarded."""
        told, _ = in_turns(messages, self.join)
        if not told:
            raise ValueError("no message has words")
        ordered = told if self.greets else greeting_within(told)
        return [{**message, "content": self.tokenizer.guard(message["content"])} for message in ordered]
