"""GenerationEncoder: examples to arrays on disk: tokenizer.json, chat_template.jinja, <split>.safetensors,
generation.json. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.nets.pretrained import find
from llmops.tasks.text_generation.arrays import Split, bytes_per_token, split
from llmops.tasks.text_generation.chat import Chat
from llmops.tasks.text_generation.config import GenerationTrainSection, TextGenerationSection
from llmops.tasks.text_generation.examples import texts, unfilled
from llmops.tasks.text_generation.guard import GuardedTokenizer
from llmops.tasks.text_generation.rows import Limits, Tokens, conversations, documents, pairs
from llmops.tasks.text_generation.shown import mendings, notes, numbers, passages, tables
from llmops.tasks.text_generation.template import PREPARED, ChatTemplate
from llmops.tasks.text_generation.tokenizer import (
    Vocabulary,
    pretrained_vocabulary,
    template_of,
    trained_vocabulary,
)
from llmops.tasks.text_generation.unigram import unigram_losses

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class GenerationEncoder:
    """Fits the tokenizer on the train split and encodes every split."""

    def __init__(self, section: TextGenerationSection, train: GenerationTrainSection) -> None:
        self.section, self.train = section, train

    def prepare(self, given: Mapping[str, Iterable[Row]], out: Path) -> dict[str, Any]:
        """Write the tokenizer, the chat template, generation.json and one file of arrays a split into `out`.

        Returns {"numbers", "tables", "passages", "warnings", "max_tokens", "cut"}. Raises DataError when there is
        nothing to train on, when the model's tokenizer is unusable, or when its template cannot write a conversation.
        """
        splits = {name: list(rows) for name, rows in given.items()}
        vocabulary = self.vocabulary(splits["train"])
        source = self._template(vocabulary)
        guarded = GuardedTokenizer(_copy(vocabulary.tokenizer))
        chat = None if source is None else self._chat(guarded, source, vocabulary.special)
        found = {name: split(self._rows(rows, guarded, chat, vocabulary)) for name, rows in splits.items()}
        if not len(found["train"].learnt):
            raise DataError("There is not one token to train on.", do="check the sources, and `task.objective`.")
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "tokenizer.json", vocabulary.tokenizer.to_str())
        if source is not None:
            write_whole(out / "chat_template.jinja", source)
        for name, arrays in found.items():
            arrays.write(out / f"{name}.safetensors")
        facts = self.facts(vocabulary, chat, found)
        write_json(out / "generation.json", facts)
        every = [row for rows in splits.values() for row in rows]
        mended, told = mendings(every)
        moved = 0 if chat is None or chat.greets else mended.get("mended_greeting", 0)
        return {
            "numbers": {**numbers(found, facts), **mended},
            "tables": [*tables(found), *told],
            "passages": passages(found["train"], vocabulary.tokenizer, self.section.objective),
            "warnings": notes(found, unfilled(every), moved),
            "max_tokens": facts["context"],
            "cut": sum(arrays.cut for arrays in found.values()),
        }

    def vocabulary(self, rows: Sequence[Row]) -> Vocabulary:
        """The pretrained model's tokenizer, or one trained on these rows."""
        if self.train.pretrained:
            return pretrained_vocabulary(find(self.train.model))
        said = [text for row in rows for text in texts(row)]
        return trained_vocabulary(self.train.tokenizer, said, self.train.vocabulary)

    def context(self) -> int:
        """Tokens a row may have: the task's limit, or the pretrained model's positions where these are fewer."""
        if not self.train.pretrained:
            return self.section.context
        config = json.loads((find(self.train.model) / "config.json").read_bytes())
        positions = config.get("max_position_embeddings") or config.get("n_positions") or self.section.context
        return min(self.section.context, int(positions))

    def facts(self, vocabulary: Vocabulary, chat: Chat | None, found: Mapping[str, Split]) -> dict[str, Any]:
        """generation.json."""
        end = vocabulary.end if chat is None else _end_of_turn(chat, vocabulary)
        ends = list(dict.fromkeys([end, vocabulary.end, *vocabulary.ends]))
        learnt = {name: arrays.learnt for name, arrays in found.items()}
        return {
            "objective": self.section.objective,
            "vocabulary": vocabulary.size,
            "end_token": end,
            "end_tokens": ends,
            "pad_token": vocabulary.pad,
            "begin_token": vocabulary.begin,
            "special_tokens": vocabulary.special,
            "context": self.context(),
            "system": self.section.system,
            "join": self.section.join,
            "bytes_per_token": bytes_per_token(vocabulary.tokenizer, found),
            "unigram_loss": unigram_losses(learnt, vocabulary.size),
        }

    def _template(self, vocabulary: Vocabulary) -> str | None:
        """The chat template; a model of documents has one only when it came with one."""
        chats = self.section.objective != "language-model"
        return template_of(vocabulary) if chats else vocabulary.template if self.train.pretrained else None

    def _chat(self, guarded: GuardedTokenizer, source: str, special: Mapping[str, str]) -> Chat:
        try:
            return Chat(guarded, ChatTemplate(source, special, PREPARED), self.section.join)
        except ValueError as problem:
            do = "mend chat_template.jinja in the model's folder."
            raise DataError(f"The model's chat template is unusable: {problem}.", "train.model", do) from problem

    def _rows(
        self, rows: Sequence[Row], guarded: GuardedTokenizer, chat: Chat | None, vocabulary: Vocabulary
    ) -> list[Tokens]:
        if self.section.objective == "language-model" or chat is None:
            return list(documents(rows, guarded, vocabulary.begin, vocabulary.end))
        limits = Limits(self.context(), vocabulary.begin)
        if self.section.objective == "preferences":
            return list(pairs(rows, chat, limits))
        return list(conversations(rows, chat, limits, self.section.learn))


def _end_of_turn(chat: Chat, vocabulary: Vocabulary) -> int:
    """The token that ends an answer, where the template and the tokenizer name one; else the end of text."""
    try:
        found = chat.tokenizer.tokenizer.token_to_id(chat.end_of_turn())
    except ValueError:  # only a model of documents comes here with such a template
        found = None
    return vocabulary.end if found is None else int(found)


def _copy(tokenizer: Tokenizer) -> Tokenizer:
    from tokenizers import Tokenizer as Kind

    return Kind.from_str(tokenizer.to_str())
