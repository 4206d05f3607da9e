"""TextReader: texts to tokens, by a bundle's cleaning and tokenizer; the half that all codecs of texts share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import Field
from tokenizers import Tokenizer

from llmops.core.errors import DataError
from llmops.core.protocols import Arrays
from llmops.core.section import Section
from llmops.fields.cleaning import cleaner
from llmops.tasks.tokenised import cells, padded


class Labelled(Section):
    """What every codec of texts reads in bundle.json's `settings`."""

    labels: list[str] = Field(min_length=1)
    """The labels, in the order of the logits."""
    max_tokens: int = Field(ge=1)
    """Longer texts are cut here, as in training."""


class Asked(Protocol):
    """A request."""

    @property
    def text(self) -> str: ...


Settings = TypeVar("Settings", bound=Labelled)


class TextReader:
    """The half of a codec that reads."""

    one = "text"
    many = "texts"

    def read(self, bundle: Path, kind: type[Settings]) -> Settings:
        """The bundle's settings; afterwards `encode` works. Raises DataError when its files cannot be read."""
        try:
            manifest = json.loads((bundle / "bundle.json").read_bytes())
            settings = kind.model_validate(manifest["settings"])
            self.labels, self.most = settings.labels, settings.max_tokens
            self.clean = cleaner(manifest["cleaning"])
            self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(settings.max_tokens)
        except Exception as error:  # tokenizers raises a bare Exception
            do = "make the bundle again: llmops compress CONFIG"
            raise DataError(f"the bundle cannot be read: {error!r}", str(bundle), do) from error
        return settings

    def size(self, request: Asked) -> int:
        """Characters."""
        return len(request.text)

    def cells(self, request: Asked) -> int:
        """Tokens."""
        return cells(self.tokenizer, self.clean(request.text), self.most)

    def encode(self, requests: Sequence[Asked]) -> Arrays:
        """Arrays "tokens" and "mask", int64 [batch, length], padded to the longest text of this batch."""
        return padded(self.tokenizer, [self.clean(request.text) for request in requests])
