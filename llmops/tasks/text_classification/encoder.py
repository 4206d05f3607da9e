"""TextEncoder: examples to arrays on disk: labels.json, tokenizer.json, <split>.safetensors. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.engine.ragged import Ragged, ragged
from llmops.nets.pretrained import find
from llmops.nets.tokenizer import pretrained_tokenizer, token_limit
from llmops.tasks.text_classification.config import SCRATCH, TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OUTSIDE = -1
"""Class index of rows that belong to no class."""


class TextEncoder:
    """Fits the label list and the tokenizer on the train split, and encodes every split."""

    def __init__(self, section: TextClassificationSection, train: TextTrainSection) -> None:
        self.section, self.train = section, train

    def prepare(self, given: Mapping[str, Iterable[Row]], out: Path) -> dict[str, Any]:
        """Write labels.json, tokenizer.json and <split>.safetensors into `out`.

        Returns {"labels", "vocabulary", "max_tokens", "cut" (rows cut at max_tokens), "tokens" (split -> total)}.
        Raises DataError when there are fewer than two classes, or a split has a label that train lacks.
        """
        splits = {name: list(rows) for name, rows in given.items()}
        labels = self.labels(splits)
        tokenizer = self.tokenizer([row["text"] for row in splits["train"]])
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "labels.json", labels)
        write_whole(out / "tokenizer.json", tokenizer.to_str())
        limit = self.limit()
        tokenizer.enable_truncation(limit)
        index = {label: number for number, label in enumerate(labels)}
        cut, totals = 0, {}
        for name, rows in splits.items():
            encoded, shortened = encode_rows(tokenizer, rows, index)
            encoded.write(out / f"{name}.safetensors")
            cut, totals[name] = cut + shortened, len(encoded.tokens)
        return {
            "labels": len(labels),
            "vocabulary": tokenizer.get_vocab_size(),
            "max_tokens": limit,
            "cut": cut,
            "tokens": totals,
        }

    def labels(self, splits: Mapping[str, list[Row]]) -> list[str]:
        """The classes of the train split, sorted, the outside label left out."""
        labels = sorted({row["label"] for row in splits["train"]} - {self.section.outside})
        if len(labels) < 2:
            raise DataError(
                f"A classifier needs two classes or more; the training rows have {len(labels)}.",
                do="check `task.label`, and that the sources hold rows of every class.",
            )
        known = {*labels, self.section.outside}
        for name, rows in splits.items():
            unknown = sorted({row["label"] for row in rows} - known)
            if unknown:
                raise DataError(
                    f"{name} has labels that no training row has: {', '.join(map(str, unknown[:5]))}.",
                    do="add training rows for them, or take them out; out-of-scope rows need `task.outside`.",
                )
        return labels

    def tokenizer(self, texts: list[str]) -> Tokenizer:
        if self.train.model in SCRATCH:
            return train_tokenizer(texts, self.train.vocabulary)
        return pretrained_tokenizer(find(self.train.model))

    def limit(self) -> int:
        """Tokens a text may have: the task's limit, or the encoder's positions where these are fewer."""
        if self.train.model in SCRATCH:
            return self.section.max_tokens
        return token_limit(find(self.train.model), self.section.max_tokens)


def encode_rows(tokenizer: Tokenizer, rows: list[Row], index: Mapping[str, int]) -> tuple[Ragged, int]:
    """The rows' tokens and class numbers, and how many texts were cut."""
    encodings = tokenizer.encode_batch([row["text"] for row in rows])
    labels = [index.get(row["label"], OUTSIDE) for row in rows]
    return ragged([encoding.ids for encoding in encodings], labels), sum(bool(e.overflowing) for e in encodings)
