"""AnsweringCodec: a question to tokens, its vector to the best entries. The same code for the server and deploy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, computed_field
from tokenizers import Tokenizer

from llmops.core.errors import DataError
from llmops.core.protocols import Arrays
from llmops.core.section import Section
from llmops.fields.cleaning import cleaner
from llmops.tasks.answering.config import PhraseSection
from llmops.tasks.answering.embedding import TextToEmbed, told
from llmops.tasks.answering.index import Index, read_index, there
from llmops.tasks.answering.phrasing import Phraser
from llmops.tasks.answering.ranking import DEPTH, best_first
from llmops.tasks.withheld import Withheld, less_sure

DECIMALS = 6
REMAKE = "make the bundle again: llmops compress CONFIG"


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
    """The answer in a generator's words, where the bundle names one and it did answer."""
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


class AnsweringSettings(Section):
    """What the codec reads in bundle.json's `settings`."""

    max_tokens: int = Field(ge=1)
    """Longer questions are cut here, as in training."""
    lexical: float = Field(ge=0, le=1)
    """BM25's share in a score."""
    slope: float = 1.0
    """confidence = 1 / (1 + exp(-(slope * score + intercept))) (Platt 1999)."""
    intercept: float = 0.0
    """See `slope`."""
    threshold: float = Field(0.0, ge=0, le=1)
    """The server abstains when the confidence is below it."""
    phrase: PhraseSection | None = None
    """The generator that phrases answers, if any."""

    def confidence(self, score: float) -> float:
        """How likely an entry with this score is right."""
        return 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, self.slope * score + self.intercept))))


Asked = AnsweringRequest | TextToEmbed


class AnsweringCodec:
    """Requests to arrays and answers back, by bundle.json's settings, tokenizer.json and the index in the bundle."""

    Request = AnsweringRequest
    Response = AnsweringResponse
    one = "question"
    many = "questions"
    sample = AnsweringRequest(question="Where is my parcel?", phrase=False)

    def __init__(self, bundle: Path) -> None:
        """Raises DataError when the bundle's files cannot be read. A candidate may still lack its index."""
        self.folder = bundle
        try:
            manifest = json.loads((bundle / "bundle.json").read_bytes())
            self.settings = AnsweringSettings.model_validate(manifest["settings"])
            self.clean = cleaner(manifest["cleaning"])
            self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(self.settings.max_tokens)
        except Exception as error:  # tokenizers raises a bare Exception
            raise DataError(f"the bundle cannot be read: {error!r}", str(bundle), REMAKE) from error
        self.phraser = Phraser(self.settings.phrase) if self.settings.phrase else None
        if there(bundle):
            _ = self.index

    @cached_property
    def index(self) -> Index:
        """What is found in; a candidate's is written after the codec was made."""
        return read_index(self.folder, self.settings.lexical)

    def request(self, row: Mapping[str, Any]) -> AnsweringRequest:
        """The request that a row of a data set would have been; no generator is asked to phrase the answer."""
        return AnsweringRequest(question=row["text"], phrase=False)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.index.vectors.shape[1])

    def embedding(self, text: str) -> TextToEmbed:
        """The request for the vector of a text, of a question or of what may answer one."""
        return TextToEmbed(text)

    def size(self, request: Asked) -> int:
        """Characters: what limits are counted in, and what batches are grouped by."""
        return len(request.text)

    def encode(self, requests: Sequence[Asked]) -> Arrays:
        """Arrays "tokens" and "mask", int64 [batch, length], padded to the longest text of this batch."""
        return self.arrays([self.clean(request.text) for request in requests])

    def arrays(self, texts: Sequence[str]) -> Arrays:
        """The arrays of cleaned texts, questions or entries."""
        # A text of which cleaning or the tokenizer leaves nothing still needs one place that is not masked.
        rows = [encoding.ids or [0] for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        shape = len(rows), max(len(row) for row in rows)
        tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {"tokens": tokens, "mask": mask}

    def decode(self, arrays: Sequence[Any], requests: Sequence[Asked]) -> list[Any]:
        """Responses from vectors, float32 [batch, width]: answers to questions, the vectors themselves of texts."""
        vectors = arrays[0]
        asked = {place: request for place, request in enumerate(requests) if isinstance(request, AnsweringRequest)}
        if len(asked) == len(requests):
            return self._answers(vectors, list(asked.values()))
        others = [place for place in range(len(requests)) if place not in asked]
        texts = [self.clean(requests[place].text) for place in others]
        found: dict[int, Any] = dict(zip(others, told(vectors[others], texts, self.tokenizer), strict=True))
        if asked:
            found |= dict(zip(asked, self._answers(vectors[list(asked)], list(asked.values())), strict=True))
        return [found[place] for place in range(len(requests))]

    def _answers(self, vectors: np.ndarray[Any, Any], requests: Sequence[AnsweringRequest]) -> list[AnsweringResponse]:
        """The answers to questions with these vectors."""
        questions = [self.clean(request.question) for request in requests]
        scores = self.index.scores(vectors, questions, self.settings.lexical)
        found = [self._response(row, request.top) for row, request in zip(scores, requests, strict=True)]
        return self._phrased(found, requests) if self.phraser else found

    def _response(self, scores: np.ndarray[Any, Any], top: int) -> AnsweringResponse:
        best, *others = [self._found(number, scores[number]) for number in best_first(scores, top)]
        confidence = self.settings.confidence(best.score)
        withheld = self._withheld(best, confidence) if confidence < self.settings.threshold else None
        return AnsweringResponse(
            answer=None if withheld else best.text, withheld=withheld, entry=best.entry, source=best.source,
            score=best.score, confidence=round(confidence, DECIMALS), alternatives=others,
        )  # fmt: skip

    def _withheld(self, best: FoundEntry, confidence: float) -> Withheld:
        why = less_sure(confidence, self.settings.threshold)
        return Withheld(answer=best.text, probability=round(confidence, DECIMALS), why=why)

    def _found(self, number: int, score: float) -> FoundEntry:
        entry = self.index.entries[number]
        return FoundEntry(entry=entry.id, text=entry.text, source=entry.source, score=round(float(score), DECIMALS))

    def _phrased(self, found: list[AnsweringResponse], requests: Sequence[AnsweringRequest]) -> list[AnsweringResponse]:
        """The responses with the generator's wording of those that answer and may be phrased."""
        assert self.phraser is not None
        wanted = [
            (place, request.question, response.answer)
            for place, (request, response) in enumerate(zip(requests, found, strict=True))
            if request.phrase and response.answer is not None
        ]
        worded = self.phraser.phrase_all([(question, answer) for _, question, answer in wanted])
        for (place, _, _), words in zip(wanted, worded, strict=True):
            found[place] = found[place].model_copy(update={"phrased": words})
        return found
