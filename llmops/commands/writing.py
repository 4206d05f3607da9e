"""Answers to a file of prompts or conversations by a model that writes: as many at once as the stepper has slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmops.bundle.predictor import Predictor
from llmops.bundle.sampling import Sampler

PROMPTS = ("prompt", "question", "instruction", "text")
"""Columns that may hold a prompt; a conversation stands in `messages`."""
SEED = 0

Rows = Iterable[tuple[Mapping[str, Any], str]]


@dataclass
class Answer:
    """An answer on its way: `most` tokens at most."""

    origin: str
    most: int
    sampler: Sampler
    tokens: list[int] = field(default_factory=list)


class Writer:
    """Keeps the slots of one opened bundle busy."""

    def __init__(self, predictor: Predictor) -> None:
        self.codec, self.stepper = predictor.codec, predictor.runtime
        self.context = min(self.codec.context, self.stepper.context)
        self.defaults: Mapping[str, Any] = predictor.settings["generation"]
        self.free = list(range(self.stepper.slots))
        self.running: dict[int, Answer] = {}

    def write(self, rows: Rows) -> Iterator[dict[str, Any]]:
        """For each (row, origin) {"origin", "answer", "tokens", "finish"} or {"origin", "error"}, as they are done.

        `finish` is "stop" or "length". Answers are drawn as the bundle says, the same each time.
        """
        for row, origin in rows:
            try:
                self.begin(prompt_of(self.codec, row), origin)
            except ValueError as error:
                yield {"origin": origin, "error": str(error)}
            while not self.free:
                yield from self.step()
        while self.running:
            yield from self.step()

    def begin(self, prompt: list[int], origin: str) -> None:
        """Read a prompt into a free slot. Raises ValueError when the context has no place for an answer."""
        if len(prompt) >= self.context:
            raise ValueError(f"the prompt has {len(prompt):,} tokens; the model takes fewer than {self.context:,}")
        most = min(int(self.defaults["max_tokens"]), self.context - len(prompt))
        sampler = Sampler(float(self.defaults["temperature"]), float(self.defaults["top_p"]), SEED)
        slot = self.free.pop()
        first = sampler.choose(self.stepper.prefill(slot, prompt))
        self.running[slot] = Answer(origin, most, sampler, [first])

    def step(self) -> Iterator[dict[str, Any]]:
        """Yield the answers that are done, and give each of the others one more token."""
        for slot, answer in list(self.running.items()):
            ended = answer.tokens[-1] in self.codec.end_tokens
            if ended or len(answer.tokens) >= answer.most:
                yield self.told(self.running.pop(slot), ended)
                self.stepper.free(slot)
                self.free.append(slot)
        if not self.running:
            return
        logits = self.stepper.step({slot: answer.tokens[-1] for slot, answer in self.running.items()})
        for answer, choice in zip(self.running.values(), logits, strict=True):
            answer.tokens.append(answer.sampler.choose(choice))

    def told(self, answer: Answer, ended: bool) -> dict[str, Any]:
        """A line of the answers' file."""
        text = self.codec.text(answer.tokens)
        finish = "stop" if ended else "length"
        return {"origin": answer.origin, "answer": text, "tokens": len(answer.tokens), "finish": finish}


def prompt_of(codec: Any, row: Mapping[str, Any]) -> list[int]:
    """The tokens that a row asks with: its conversation up to the last user's message, or its prompt.

    Raises ValueError for a row that has neither, and for one that the codec refuses.
    """
    messages = row.get("messages")
    if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        asked = messages[:-1] if messages and messages[-1].get("role") == "assistant" else messages
        return list(codec.chat(asked))
    found = next((row[name] for name in PROMPTS if isinstance(row.get(name), str) and row[name].strip()), None)
    if found is None:
        raise ValueError(f"neither `messages` nor one of {', '.join(PROMPTS)}")
    return list(codec.chat([{"role": "user", "content": found}]) if codec.chats else codec.prompt(found))
