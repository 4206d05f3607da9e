"""The config blocks of question answering: `task:`, `train:` and its gates. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from llmops.core.accept import AcceptSection, Gate
from llmops.core.protocols import Places
from llmops.core.section import Section
from llmops.engine.config import FitSection

MetricName = Literal["mrr", "recall_at_1", "recall_at_5"]


class PhraseSection(Section):
    """A generator behind an OpenAI-compatible address that phrases the answer from the entry that was found."""

    url: str = Field(pattern=r"^https?://")
    """Base address, such as http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """The generator's name there."""
    key: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the API key; the server reads it, and the bundle never holds it."""
    max_tokens: int = Field(200, ge=1, le=4096)
    """Longest wording, in tokens."""
    timeout_s: float = Field(20.0, gt=0, le=50)
    """After so many seconds the entry is given as it stands, without a wording."""
    guard: bool = True
    """Whether a wording that fails the check of faithfulness is kept back, and the entry given as it stands."""
    supported: float = Field(0.5, ge=0, le=1)
    """Share of the longer words of a wording, and of each sentence with four of them, that must stand in the entry or
    the question; every number, date and address must in any case (see tasks/answering/faithful.py)."""


class ChatSection(Section):
    """How answers are said in a chat (/v1/chat/completions)."""

    unknown: str = Field("I don't know: none of our answers fits that question.", min_length=1)
    """What is said when nothing fits."""
    source: str | None = "Source:"
    """What stands before the source at an answer's end; null leaves the source out of the words."""


class AnsweringSection(Section):
    """`task:` for question answering: which column asks, which answers, and what else may be found."""

    name: Literal["answering"] = "answering"
    """The task."""
    question: str = "question"
    """Column with the question."""
    answer: str = "answer"
    """Column with the right answer; several rows with one question mean that each of their answers is right."""
    source: str | None = None
    """Column that says where the answer stands (a page, a title); it is given beside the answer."""
    documents: str | None = None
    """A folder (or one file) of .txt and .md documents; their passages can be found beside the answers."""
    passage_words: int = Field(120, ge=20, le=1000)
    """Words of a passage at most; documents are cut between paragraphs, and between sentences where one is longer."""
    metric: MetricName = "mrr"
    """What early stopping, tune and compress compare models by: `mrr` (mean reciprocal rank of the first right entry,
    ranks past 10 count nothing), `recall_at_1`, `recall_at_5` (share of questions with a right entry among so many)."""
    max_tokens: int = Field(128, ge=8, le=8192)
    """Longer questions and entries are cut here for the encoder; BM25 and the user get them whole."""
    lexical: float = Field(0.2, ge=0, le=1)
    """Share of BM25 in a score; the rest is the vectors' similarity. 0: vectors alone."""
    phrase: PhraseSection | None = None
    """Lets a generator phrase the answer from the entry; absent: the entry is the answer."""
    chat: ChatSection = ChatSection()
    """How answers are said in a chat."""

    def located(self, places: Places) -> AnsweringSection:
        """The section with the path of its documents made absolute, by the rule for all paths of a config."""
        if self.documents is None:
            return self
        return self.model_copy(update={"documents": str(places.resolve(self.documents))})

    def files(self) -> list[Path]:
        """Files and folders that decide what prepare makes, beside its sources."""
        return [] if self.documents is None else [Path(self.documents)]


class AnsweringLoraSection(Section):
    """Low-rank adapters (Hu et al. 2021): small matrices are trained, the pretrained weights stay."""

    rank: int = Field(8, ge=1, le=1024)
    """Rank of the adapters."""
    alpha: float = Field(16.0, gt=0)
    """Scale of the adapters' output: alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapters."""


class AnsweringTrainSection(FitSection):
    """`train:` for question answering: a pretrained encoder learns to lay questions beside their answers."""

    epochs: int = Field(10, ge=1, le=10_000)
    """Passes over the training rows, at most; early stopping may end sooner."""
    batch_size: int = Field(64, ge=2, le=65_536)
    """Rows in one step, and so the answers that a question must tell its own from."""
    learning_rate: float = Field(1e-4, gt=0, le=10)
    """Peak learning rate of the encoder (AdamW, Loshchilov and Hutter 2019); `frozen` does not use it."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from 0."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A pretrained encoder: a hub name, a local folder, or the name of a model that an installed package carries."""
    method: Literal["full", "lora", "frozen"] = "frozen"
    """Train all weights, train adapters, or leave the encoder as it is and train only the projection after it. That
    takes seconds and brings most of the gain; `full` takes minutes and pays from about a thousand questions on (2 to 4
    epochs, `batch_size: 32`)."""
    lora: AnsweringLoraSection = AnsweringLoraSection()
    """Settings of `method: lora`."""
    pooling: Literal["mean", "first"] = "mean"
    """A text's vector is the mean of its tokens' vectors, or the first token's."""
    head_learning_rate: float = Field(1e-3, gt=0, le=10)
    """Peak learning rate of the projection after the encoder."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout on the encoder's vectors before the projection."""
    scale: float = Field(20.0, gt=0, le=1000)
    """Similarities are multiplied by it before the softmax over answers (the inverse of a temperature)."""
    symmetric: bool = True
    """The loss also asks each answer for its question among those of the batch."""
    hard_negatives: int = Field(0, ge=0, le=8)
    """For each question, so many wrong answers that BM25 ranks highest join the batch."""
    train_tokens: int | None = Field(None, ge=8)
    """Answers are cut here while training (not in the index): long answers mostly say at their start what they are
    about, and a step takes half the time. Default: as `max_tokens`."""
    encoder_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout inside the encoder. 0 lets attention use a faster kernel."""


class AnsweringAcceptSection(AcceptSection):
    """The gates of question answering."""

    recall_at_1: Gate | None = None
    """Share of held-out questions whose first entry is right."""
    recall_at_5: Gate | None = None
    """Share of held-out questions with a right entry among the first five."""
    mrr: Gate | None = None
    """Mean reciprocal rank of the first right entry; ranks past 10 count nothing."""
    answered_accuracy: Gate | None = None
    """Share of the questions that the server did not abstain from whose first entry is right."""
    answered_share: Gate | None = None
    """Share of held-out questions that the server did not abstain from."""
    unanswerable_recall: Gate | None = None
    """Share of held-out questions that the server abstains from when their right entries are taken out of the index."""
    faithfulness: Gate | None = None
    """Mean share of the longer words of the generator's wordings that stand in the entry or the question; measured
    where `task.phrase` names a generator."""
