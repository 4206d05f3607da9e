"""TextEncoder: examples to arrays on disk: labels.json, tokenizer.json, <split>.safetensors. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.artifact import write_json, write_whole
from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.engine.ragged import ragged
from llmops.nets.pretrained import find
from llmops.nets.tokenizer import pretrained_tokenizer, token_limit
from llmops.tasks.event import event_last
from llmops.tasks.text_classification.config import SCRATCH, TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OUTSIDE = -1
"""Class index of rows that belong to no class."""
UNLABELLED = "unlabelled.safetensors"
"""In a data set: the texts without labels."""


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
        cut, totals = 0, {}
        for name, rows in splits.items():
            encodings = tokenizer.encode_batch([row["text"] for row in rows])
            encoded = ragged([encoding.ids for encoding in encodings], self.numbers(rows, labels))
            encoded.write(out / f"{name}.safetensors")
            cut += sum(bool(encoding.overflowing) for encoding in encodings)
            totals[name] = len(encoded.tokens)
        return {
            "labels": len(labels),
            "vocabulary": tokenizer.get_vocab_size(),
            "max_tokens": limit,
            "cut": cut,
            "tokens": totals,
        }

    def unlabelled(self, rows: Iterable[Row], out: Path) -> None:
        """Write texts without labels beside the splits that `prepare` wrote into `out`, by the same tokenizer."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        tokenizer.enable_truncation(self.limit())
        encodings = tokenizer.encode_batch([row["text"] for row in rows])
        ragged([encoding.ids for encoding in encodings], [OUTSIDE] * len(encodings)).write(out / UNLABELLED)

    def labels(self, splits: Mapping[str, list[Row]]) -> list[str]:
        """The classes of the train split, sorted, of two the event last; the outside label left out."""
        counts = Counter(row["label"] for row in splits["train"] if row["label"] != self.section.outside)
        labels = event_last(counts, self.section.positive, str(self.section.label))
        if len(labels) < 2:
            raise DataError(
                f"A classifier needs two classes or more; the training rows have {len(labels)}.",
                do="check `task.label`, and that the sources hold rows of every class.",
            )
        if self.section.metric == "recall" and len(labels) > 2:
            raise DataError(
                f"`metric: recall` is of one of two classes, and the rows have {len(labels):,}.",
                where="task.metric",
                do="take balanced_accuracy, the mean recall over classes.",
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

    def numbers(self, rows: list[Row], labels: list[str]) -> np.ndarray:
        """The rows' class numbers, int64 [rows], -1 for those of the outside label."""
        index = {label: number for number, label in enumerate(labels)}
        return np.array([index.get(row["label"], OUTSIDE) for row in rows], np.int64)

    def tokenizer(self, texts: list[str]) -> Tokenizer:
        if self.train.model in SCRATCH:
            return train_tokenizer(texts, self.train.vocabulary)
        return pretrained_tokenizer(find(self.train.model))

    def limit(self) -> int:
        """Tokens a text may have: the task's limit, or the encoder's positions where these are fewer."""
        if self.train.model in SCRATCH:
            return self.section.max_tokens
        return token_limit(find(self.train.model), self.section.max_tokens)
