"""TextCodec: a text to tokens, logits back to a label. The same code for the server, deploy and batch scoring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, StrictStr, model_validator
from tokenizers import Tokenizer

from llmops.core.errors import DataError
from llmops.core.protocols import Arrays
from llmops.core.section import Section
from llmops.fields.cleaning import cleaner
from llmops.tasks.text_classification.calibration import softmax
from llmops.tasks.text_classification.detectors import Detector, certainty

ALTERNATIVES = 3
DECIMALS = 6


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty")
    return text


class TextRequest(Section):
    """One text to classify."""

    text: Annotated[StrictStr, AfterValidator(_not_blank)]
    """What the customer wrote."""


class Alternative(Section):
    """A label that was less likely."""

    label: str
    """The label."""
    probability: float
    """Its calibrated probability."""


class TextResponse(Section):
    """The answer to one text."""

    label: str | None
    """The label; null when the model abstains."""
    best: str
    """The likeliest label, also when the model abstains."""
    probability: float
    """Calibrated probability that `best` is right, for a text that belongs to one of the labels."""
    certainty: float
    """What abstaining goes by: `probability`, or another measure that told foreign texts apart better on validation
    (`detector` in the bundle's settings); it may be any number."""
    abstained: bool
    """The model is not sure enough and gives no label: `certainty` lies below the threshold that validation chose."""
    alternatives: list[Alternative]
    """The next likeliest labels, three at most."""


class TextSettings(Section):
    """What the codec reads in bundle.json's `settings`."""

    labels: list[str] = Field(min_length=1)
    """Class labels, in the order of the logits."""
    max_tokens: int = Field(ge=1)
    """Longer texts are cut here, as in training."""
    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it before the softmax (Guo et al. 2017)."""
    detector: Detector = "probability"
    """What abstaining goes by; see detectors.py. Bundles of before know only the largest probability."""
    threshold: float = 0.0
    """The server abstains when the detector's certainty is below it; probability and 0: never."""

    @model_validator(mode="after")
    def _threshold_fits(self) -> TextSettings:
        if self.detector != "energy" and not 0 <= self.threshold <= 1:
            raise ValueError(f"`threshold` of {self.detector} is a number from 0 to 1")
        return self


class TextCodec:
    """Requests to arrays and answers back, by the settings in the bundle's bundle.json and tokenizer.json."""

    Request = TextRequest
    Response = TextResponse
    one = "text"
    many = "texts"
    sample = TextRequest(text="Where is my parcel?")

    def __init__(self, bundle: Path) -> None:
        """Raises DataError when the bundle's files cannot be read."""
        try:
            manifest = json.loads((bundle / "bundle.json").read_bytes())
            settings = TextSettings.model_validate(manifest["settings"])
            self.labels, self.temperature = settings.labels, settings.temperature
            self.detector, self.threshold = settings.detector, settings.threshold
            self.clean = cleaner(manifest["cleaning"])
            self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(settings.max_tokens)
        except Exception as error:  # tokenizers raises a bare Exception
            do = "make the bundle again: llmops compress CONFIG"
            raise DataError(f"the bundle cannot be read: {error!r}", str(bundle), do) from error

    def request(self, row: Mapping[str, Any]) -> TextRequest:
        """The request that a row of a data set would have been."""
        return TextRequest(text=row["text"])

    def size(self, request: TextRequest) -> int:
        """Characters: what limits are counted in, and what batches are grouped by."""
        return len(request.text)

    def encode(self, requests: Sequence[TextRequest]) -> Arrays:
        """Arrays "tokens" and "mask", int64 [batch, length], padded to the longest text of this batch."""
        texts = [self.clean(request.text) for request in requests]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        # A text of which cleaning or the tokenizer leaves nothing still needs one place that is not masked,
        # or pooling divides by zero.
        rows = [row or [0] for row in rows]
        shape = len(rows), max(len(row) for row in rows)
        tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return {"tokens": tokens, "mask": mask}

    def decode(self, arrays: Sequence[Any], requests: Sequence[TextRequest]) -> list[TextResponse]:
        """Responses from logits, float32 [batch, classes]."""
        sure = certainty(self.detector, arrays[0], self.temperature)
        return [self._response(*row) for row in zip(softmax(arrays[0], self.temperature), sure, strict=True)]

    def _response(self, row: np.ndarray[Any, Any], sure: float) -> TextResponse:
        order = np.argsort(-row, kind="stable")[: ALTERNATIVES + 1]
        ranked = [
            Alternative(label=self.labels[index], probability=round(float(row[index]), DECIMALS)) for index in order
        ]
        best = ranked[0]
        abstained = bool(sure < self.threshold)
        return TextResponse(
            label=None if abstained else best.label, best=best.label, probability=best.probability,
            certainty=round(float(sure), DECIMALS), abstained=abstained, alternatives=ranked[1:],
        )  # fmt: skip
