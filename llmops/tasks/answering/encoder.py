"""AnsweringEncoder: examples to a data set: the index, the tokenizer, arrays of questions and entries. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.core.report import Number, Passage
from llmops.engine.ragged import Ragged, ragged
from llmops.fields.hashing import normalise
from llmops.nets.pretrained import find
from llmops.nets.tokenizer import pretrained_tokenizer, token_limit
from llmops.tasks.answering import entries as entry_file
from llmops.tasks.answering.config import AnsweringSection, AnsweringTrainSection
from llmops.tasks.answering.entries import Entry, collect, places, write_entries
from llmops.tasks.answering.passages import read_documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENTRIES = "entries.safetensors"
SHOWN = 3
CUT_SHARE = 0.2


class AnsweringEncoder:
    """Collects the index and encodes it and every split's questions with the encoder's own tokenizer."""

    def __init__(self, section: AnsweringSection, train: AnsweringTrainSection) -> None:
        self.section, self.train = section, train

    def prepare(self, given: Mapping[str, Iterable[Row]], out: Path) -> dict[str, Any]:
        """Write entries.jsonl, entries.safetensors, tokenizer.json and <split>.safetensors into `out`.

        Entries' arrays have their own numbers as labels, questions' the number of their row's answer. Returns
        {"max_tokens", "cut" (questions cut there), "numbers", "passages", "warnings"}. Raises DataError when the index
        has fewer than two entries.
        """
        splits = {name: list(rows) for name, rows in given.items()}
        entries = collect(splits, self.passages())
        if len(entries) < 2:
            raise DataError(
                f"An index needs two different answers or more; the rows have {len(entries)}.",
                do="check `task.answer`, or add `task.documents`.",
            )
        folder = find(self.train.model)
        tokenizer, limit = pretrained_tokenizer(folder), token_limit(folder, self.section.max_tokens)
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "tokenizer.json", tokenizer.to_str())
        write_entries(out / entry_file.FILE, entries)
        tokenizer.enable_truncation(limit)
        encoded, entries_cut = encode(tokenizer, [one.text for one in entries], range(len(entries)))
        encoded.write(out / ENTRIES)
        number, cut = places(entries), 0
        for name, rows in splits.items():
            labels = [number[normalise(row["answer"])] for row in rows]
            encoded, shortened = encode(tokenizer, [row["text"] for row in rows], labels)
            encoded.write(out / f"{name}.safetensors")
            cut += shortened
        return {
            "max_tokens": limit,
            "cut": cut,
            "numbers": told(splits, entries, entries_cut),
            "passages": shown(splits["train"]),
            "warnings": warnings(len(entries), entries_cut, limit),
        }

    def passages(self) -> list[Entry]:
        """Those of the documents that the config names."""
        place = self.section.documents
        return [] if place is None else read_documents(Path(place).expanduser(), self.section.passage_words)


def encode(tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[int]) -> tuple[Ragged, int]:
    """The texts' tokens with their labels, and how many texts were cut. A text of which the tokenizer leaves nothing
    gets one token, since pooling needs one."""
    encodings = tokenizer.encode_batch(list(texts))
    return ragged([one.ids or [0] for one in encodings], list(labels)), sum(bool(one.overflowing) for one in encodings)


def told(splits: Mapping[str, list[Row]], entries: Sequence[Entry], cut: int) -> dict[str, Number]:
    """Figures of the index."""
    answers = {normalise(row["answer"]) for rows in splits.values() for row in rows}
    trained = {normalise(row["answer"]) for row in splits["train"]}
    return {
        "entries": len(entries),
        "entries_of_documents": len(entries) - len(answers),
        "entries_without_training_question": len(entries) - len(trained),
        "entries_cut": cut,
    }


def shown(rows: Sequence[Row]) -> list[Passage]:
    """A few questions, each with its answer marked."""
    return [
        Passage(f"Row {row.get('id', number)}", [(f"{row['text']}\n", False), (row["answer"], True)])
        for number, row in enumerate(rows[:SHOWN])
    ]


def warnings(entries: int, cut: int, limit: int) -> list[str]:
    """What deserves a person's eye."""
    if cut <= CUT_SHARE * entries:
        return []
    return [
        f"{cut:,} of {entries:,} entries are longer than {limit} tokens: their vectors see the beginning alone;"
        " raise `task.max_tokens`, or split them"
    ]
