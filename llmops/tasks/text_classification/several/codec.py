"""LabelsCodec: a text to tokens, logits back to the labels that reach their thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PrivateAttr, StrictInt, model_validator

from llmops.core.section import Section
from llmops.fields.labelsets import labels_text
from llmops.tasks.text_classification.codec import DECIMALS, TextRequest
from llmops.tasks.text_classification.occlusion import Span, parts, without
from llmops.tasks.text_classification.several.calibration import probabilities
from llmops.tasks.text_classification.texts import Labelled, TextReader

OTHERS = 3
"""Labels below their thresholds that a response names."""
MOST_OTHERS = 10_000


class LabelsRequest(TextRequest):
    """One text to label."""

    others: Annotated[StrictInt, Field(ge=0, le=MOST_OTHERS)] = OTHERS
    """Of the labels that are not given, so many of the likeliest are named."""


class LikelyLabel(Section):
    """A label and how likely it is."""

    label: str
    """The label."""
    probability: float
    """Its calibrated probability; those of several labels need not sum up to 1."""


class LabelsResponse(Section):
    """The answer to one text."""

    labels: list[LikelyLabel]
    """The labels given, each at or above its own threshold, the likeliest first; there may be none."""
    others: list[LikelyLabel]
    """The likeliest of those that are not given, three unless the request asks for more."""
    _sure: float = PrivateAttr(0.0)

    @property
    def best(self) -> str:
        """What the traffic log keeps as the label."""
        return labels_text(one.label for one in self.labels)

    @property
    def probability(self) -> float:
        """What the traffic log keeps as the probability: how likely exactly these labels are right, if one label says
        nothing about another."""
        return self._sure

    @property
    def abstained(self) -> bool:
        """Never: where no label is likely enough, none is given."""
        return False


class LabelsSettings(Labelled):
    """What the codec reads in bundle.json's `settings`; what is not calibrated yet is as the logits have it."""

    several: Literal[True]
    """Each text has any number of labels."""
    separator: str | None = None
    """What stands between labels where several are said in one text."""
    slope: float = Field(1.0, gt=0)
    """Logits are multiplied by it, (Platt scaling)."""
    intercepts: list[float] = []
    """And these are added, one for each label; absent: nothing."""
    thresholds: list[float] = []
    """A label is given from this probability on, one for each label; absent: one half."""

    @model_validator(mode="after")
    def _one_for_each(self) -> LabelsSettings:
        for name in ("intercepts", "thresholds"):
            if len(getattr(self, name)) not in (0, len(self.labels)):
                raise ValueError(f"`{name}` holds {len(getattr(self, name))} numbers for {len(self.labels)} labels")
        return self

    def chances(self, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Calibrated probabilities float64 [rows, labels]."""
        return probabilities(logits, self.slope, self.intercepts or [0.0] * len(self.labels))

    def cuts(self) -> np.ndarray[Any, Any]:
        """The thresholds, float64 [labels]."""
        return np.array(self.thresholds or [0.5] * len(self.labels))


class LabelsCodec(TextReader):
    """Requests to arrays and answers back, by the settings in the bundle's bundle.json and tokenizer.json."""

    Request = LabelsRequest
    Response = LabelsResponse
    sample = LabelsRequest(text="Where is my parcel?")

    def __init__(self, bundle: Path) -> None:
        """Raises DataError when the bundle's files cannot be read."""
        self.settings = self.read(bundle, LabelsSettings)
        self.cuts = self.settings.cuts()

    def request(self, row: Mapping[str, Any]) -> LabelsRequest:
        """The request that a row of a data set would have been."""
        return LabelsRequest(text=row["text"])

    def occluded(self, request: LabelsRequest) -> tuple[list[Span], list[LabelsRequest]]:
        """The words of the text, and the requests without each; every label is told."""
        found = parts(request.text)
        texts = [request.text, *(without(request.text, span) for span in found)]
        return found, [LabelsRequest(text=text, others=len(self.labels)) for text in texts]

    def mattered(self, responses: Sequence[LabelsResponse]) -> list[float]:
        """Differences of the probabilities of the labels given, summed; where none is given, of the likeliest one."""
        shares = [{one.label: one.probability for one in (*said.labels, *said.others)} for said in responses]
        given = [one.label for one in responses[0].labels] or [responses[0].others[0].label]
        return [round(sum(shares[0][name] - share[name] for name in given), DECIMALS) for share in shares[1:]]

    def decode(self, arrays: Sequence[Any], requests: Sequence[LabelsRequest]) -> list[LabelsResponse]:
        """Responses from logits, float32 [batch, labels]."""
        chances = self.settings.chances(arrays[0])
        return [self._response(row, request.others) for row, request in zip(chances, requests, strict=True)]

    def _response(self, chances: np.ndarray[Any, Any], others: int) -> LabelsResponse:
        given = chances >= self.cuts
        order = np.argsort(-chances, kind="stable")
        response = LabelsResponse(
            labels=[self._likely(at, chances) for at in order[given[order]]],
            others=[self._likely(at, chances) for at in order[~given[order]][:others]],
        )
        response._sure = round(float(np.where(given, chances, 1.0 - chances).prod()), DECIMALS)
        return response

    def _likely(self, at: int, chances: np.ndarray[Any, Any]) -> LikelyLabel:
        return LikelyLabel(label=self.labels[at], probability=round(float(chances[at]), DECIMALS))
