"""What goes over the wire: a question, and the answer to it with all that was found."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, computed_field

from llmops.core.section import Section
from llmops.tasks.answering.faithful import Checked
from llmops.tasks.answering.ranking import DEPTH
from llmops.tasks.withheld import Withheld


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the question is empty")
    return text


class AnsweringRequest(Section):
    """One question."""

    question: Annotated[StrictStr, AfterValidator(_not_blank)]
    """What somebody wants to know."""
    top: Annotated[StrictInt, Field(ge=1, le=DEPTH)] = 3
    """Entries that the response names, the best among them; 10 at most."""
    phrase: StrictBool = True
    """Whether a generator, where the bundle names one, may phrase the answer."""

    @property
    def text(self) -> str:
        """What the traffic log keeps as the request's text."""
        return self.question

    @property
    def texts(self) -> tuple[str, ...]:
        """What the encoder reads for it."""
        return (self.question,)


class FoundEntry(Section):
    """An entry that fits less well."""

    entry: str
    """Its id."""
    text: str
    """Its words."""
    source: str | None
    """Where it stands."""
    score: float
    """How well it fits."""


class AnsweringResponse(Section):
    """The answer to one question."""

    answer: str | None
    """The best entry's words; null when the server abstains."""
    withheld: Withheld | None = None
    """When the server abstains: the best entry's words, and why they are kept back."""
    phrased: str | None = None
    """The answer in a generator's words, where the bundle names one, it did answer, and the check passed its words."""
    checked: Checked | None = None
    """What the check of the generator's words found, also of those that it kept back."""
    entry: str
    """Id of the best entry, also when the server abstains."""
    source: str | None
    """Where that entry stands."""
    score: float
    """How well it fits: cosine and BM25's share, weighted; at most 1."""
    confidence: float
    """How likely the best entry is right, as validation showed for such scores."""
    alternatives: list[FoundEntry]
    """The next best entries."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def abstained(self) -> bool:
        """Whether `confidence` lies below the threshold that validation chose: nothing in the index fits."""
        return self.withheld is not None

    @property
    def best(self) -> str:
        """What the traffic log keeps as the label."""
        return self.entry

    @property
    def probability(self) -> float:
        """What the traffic log keeps as the probability."""
        return self.confidence

    @property
    def words(self) -> str | None:
        """What somebody is told: the generator's words, or the entry's; None when the server abstains."""
        return self.phrased or self.answer
