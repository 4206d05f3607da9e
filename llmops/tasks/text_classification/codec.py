"""TextCodec: a text to tokens, logits back to a label. The same code for the server, deploy and batch scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, StrictInt, StrictStr, computed_field, model_validator

from llmops.core.section import Section
from llmops.tasks.text_classification.calibration import softmax
from llmops.tasks.text_classification.detectors import Detector, certainty
from llmops.tasks.text_classification.occlusion import Span, parts, without
from llmops.tasks.text_classification.texts import Labelled, TextReader
from llmops.tasks.withheld import Withheld, less_sure

ALTERNATIVES = 3
MOST_ALTERNATIVES = 10_000
DECIMALS = 6


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty")
    return text


class TextRequest(Section):
    """One text to classify."""

    text: Annotated[StrictStr, AfterValidator(_not_blank)]
    """What the customer wrote."""
    alternatives: Annotated[StrictInt, Field(ge=0, le=MOST_ALTERNATIVES)] = ALTERNATIVES
    """So many of the next likeliest labels are named."""

    def plain(self) -> dict[str, Any]:
        """The request as it was sent."""
        return self.model_dump(mode="json", exclude_unset=True)


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
    withheld: Withheld | None = None
    """When the model abstains: what the label would have been, and why it is kept back."""
    best: str
    """The likeliest label, also when the model abstains."""
    probability: float
    """Calibrated probability that `best` is right, for a text that belongs to one of the labels."""
    certainty: float
    """What abstaining goes by: `probability`, or another measure that told foreign texts apart better on validation
    (`detector` in the bundle's settings); it may be any number."""
    alternatives: list[Alternative]
    """The next likeliest labels, three where the request says nothing."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def abstained(self) -> bool:
        """The model is not sure enough and gives no label: `certainty` lies below the threshold that validation
        chose."""
        return self.withheld is not None


class TextSettings(Labelled):
    """What the codec reads in bundle.json's `settings`."""

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


class TextCodec(TextReader):
    """Requests to arrays and answers back, by the settings in the bundle's bundle.json and tokenizer.json."""

    Request = TextRequest
    Response = TextResponse
    sample = TextRequest(text="Where is my parcel?")

    def __init__(self, bundle: Path) -> None:
        """Raises DataError when the bundle's files cannot be read."""
        settings = self.read(bundle, TextSettings)
        self.temperature, self.detector, self.threshold = settings.temperature, settings.detector, settings.threshold

    def request(self, row: Mapping[str, Any]) -> TextRequest:
        """The request that a row of a data set would have been."""
        return TextRequest(text=row["text"])

    def occluded(self, request: TextRequest) -> tuple[list[Span], list[TextRequest]]:
        """The words of the text, and the requests without each; every label is told."""
        found = parts(request.text)
        texts = [request.text, *(without(request.text, span) for span in found)]
        return found, [TextRequest(text=text, alternatives=len(self.labels)) for text in texts]

    def mattered(self, responses: Sequence[TextResponse]) -> list[float]:
        """Differences of the likeliest label's probability."""
        best = responses[0].best
        shares = [
            {one.best: one.probability, **{o.label: o.probability for o in one.alternatives}} for one in responses
        ]
        return [round(shares[0][best] - share.get(best, 0.0), DECIMALS) for share in shares[1:]]

    def decode(self, arrays: Sequence[Any], requests: Sequence[TextRequest]) -> list[TextResponse]:
        """Responses from logits, float32 [batch, classes]."""
        sure = certainty(self.detector, arrays[0], self.temperature)
        rows = softmax(arrays[0], self.temperature)
        return [
            self._response(row, surely, one.alternatives) for row, surely, one in zip(rows, sure, requests, strict=True)
        ]

    def _response(self, row: np.ndarray[Any, Any], sure: float, alternatives: int) -> TextResponse:
        order = np.argsort(-row, kind="stable")[: alternatives + 1]
        ranked = [
            Alternative(label=self.labels[index], probability=round(float(row[index]), DECIMALS)) for index in order
        ]
        best = ranked[0]
        withheld = self._withheld(best, float(sure)) if sure < self.threshold else None
        return TextResponse(
            label=None if withheld else best.label, withheld=withheld, best=best.label, probability=best.probability,
            certainty=round(float(sure), DECIMALS), alternatives=ranked[1:],
        )  # fmt: skip

    def _withheld(self, best: Alternative, sure: float) -> Withheld:
        measure = "" if self.detector == "probability" else self.detector
        return Withheld(answer=best.label, probability=best.probability, why=less_sure(sure, self.threshold, measure))
