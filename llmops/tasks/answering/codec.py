"""AnsweringCodec: a question to tokens, its vector to the best entries. The same code for the server and deploy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from llmops.core.errors import DataError
from llmops.core.protocols import Arrays, Reply
from llmops.core.section import Section
from llmops.fields.cleaning import cleaner
from llmops.tasks.answering.chatting import Turn, followed, reply
from llmops.tasks.answering.config import ChatSection, PhraseSection
from llmops.tasks.answering.embedding import TextToEmbed, told
from llmops.tasks.answering.index import Index, read_index, there
from llmops.tasks.answering.messages import AnsweringRequest, AnsweringResponse, FoundEntry
from llmops.tasks.answering.phrasing import Phraser
from llmops.tasks.answering.ranking import best_first
from llmops.tasks.tokenised import cells, padded
from llmops.tasks.withheld import Withheld, less_sure

DECIMALS = 6
REMAKE = "make the bundle again: llmops compress CONFIG"


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
    chat: ChatSection = ChatSection()
    """How answers are said in a chat."""

    def confidence(self, score: float) -> float:
        """How likely an entry with this score is right."""
        return 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, self.slope * score + self.intercept))))


Asked = AnsweringRequest | Turn | TextToEmbed


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

    def turn(self, turns: Sequence[str]) -> Turn:
        """The request that the user's turns of a chat make, the last of which is the question. The one before is read
        with it where the encoder reads both whole."""
        last, before = turns[-1], turns[-2] if len(turns) > 1 else None
        if before is not None and self.tokenizer.encode(self.clean(f"{before}\n{last}")).overflowing:
            before = None
        return Turn(last, before)

    @cached_property
    def counter(self) -> Tokenizer:
        """The tokenizer for texts of any length."""
        counter = Tokenizer.from_str(self.tokenizer.to_str())
        counter.no_truncation()
        return counter

    def ends(self, text: str) -> list[int]:
        """Where each token of a text ends, in characters."""
        return [end for _, end in self.counter.encode(text, add_special_tokens=False).offsets]

    def size(self, request: Asked) -> int:
        """Characters."""
        return len(request.text)

    def cells(self, request: Asked) -> int:
        """Tokens of the longest of its texts."""
        return max(cells(self.tokenizer, self.clean(text), self.settings.max_tokens) for text in request.texts)

    def encode(self, requests: Sequence[Asked]) -> Arrays:
        """Arrays "tokens" and "mask", int64 [texts, length], padded to the longest text of this batch; most requests
        are one text, a turn of a chat may be several."""
        return self.arrays([self.clean(text) for request in requests for text in request.texts])

    def arrays(self, texts: Sequence[str]) -> Arrays:
        """The arrays of cleaned texts, questions or entries."""
        return padded(self.tokenizer, texts)

    def decode(self, arrays: Sequence[Any], requests: Sequence[Asked]) -> list[Any]:
        """Responses from vectors, float32 [texts, width]: answers to questions, replies to turns of chats, and the
        vectors themselves of texts."""
        ends = np.cumsum([len(request.texts) for request in requests])
        vectors = np.split(arrays[0], ends[:-1]) if requests else []
        asked: list[int] = []
        others: list[int] = []
        for place, request in enumerate(requests):
            (others if isinstance(request, TextToEmbed) else asked).append(place)
        found: dict[int, Any] = {}
        if asked:
            answered = self._answers([vectors[place] for place in asked], [requests[place] for place in asked])
            found |= dict(zip(asked, answered, strict=True))
        if others:
            texts = [self.clean(requests[place].text) for place in others]
            read = told(np.concatenate([vectors[place] for place in others]), texts, self.tokenizer)
            found |= dict(zip(others, read, strict=True))
        return [found[place] for place in range(len(requests))]

    def _answers(
        self, vectors: Sequence[np.ndarray[Any, Any]], requests: Sequence[Any]
    ) -> list[AnsweringResponse | Reply]:
        """The answers to questions and turns with these vectors, each [texts, width]."""
        readings = [request.readings if isinstance(request, Turn) else [request] for request in requests]
        questions = [self.clean(one.question) for own in readings for one in own]
        scores = iter(self.index.scores(np.concatenate(vectors), questions, self.settings.lexical))
        chosen = [self._chosen(own, scores) for own in readings]
        responses = self._phrased([one for one, _ in chosen], [one for _, one in chosen])
        return [
            reply(request, response, self.settings.chat) if isinstance(turn, Turn) else response
            for turn, (request, _), response in zip(requests, chosen, responses, strict=True)
        ]

    def _chosen(
        self, readings: Sequence[AnsweringRequest], scores: Iterator[np.ndarray[Any, Any]]
    ) -> tuple[AnsweringRequest, AnsweringResponse]:
        """The question that is answered, one of the readings of what was asked, and the answer; takes a line of scores
        for each."""
        found = [self._response(next(scores), one.top) for one in readings]
        place = followed(found)
        return readings[place], found[place]

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

    def _phrased(self, requests: Sequence[AnsweringRequest], found: list[AnsweringResponse]) -> list[AnsweringResponse]:
        """The responses, with the generator's wording of those that answer and may be phrased."""
        if self.phraser is None:
            return found
        wanted = [
            (place, request.question, response.answer)
            for place, (request, response) in enumerate(zip(requests, found, strict=True))
            if request.phrase and response.answer is not None
        ]
        checked = self.phraser.phrase_all([(question, answer) for _, question, answer in wanted])
        for (place, _, _), said in zip(wanted, checked, strict=True):
            if said is not None:
                given = said.words if said.faithful or not self.phraser.settings.guard else None
                found[place] = found[place].model_copy(update={"phrased": given, "checked": said})
        return found
