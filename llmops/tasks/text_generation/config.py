"""The config blocks of text generation: `task:`, `train:` and its gates. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmops.core.accept import AcceptSection, Gate
from llmops.core.section import Section
from llmops.engine.config import FitSection

SCRATCH = "llama"
"""The network that is trained from scratch: Llama-shaped (Touvron et al. 2023)."""

Objective = Literal["language-model", "instructions", "preferences"]
Learn = Literal["every-answer", "last-answer"]
MetricName = Literal["loss", "perplexity", "bits_per_byte", "reward_accuracy"]


class AnswerSection(Section):
    """How the server writes when a request does not say otherwise."""

    max_tokens: int = Field(256, ge=1, le=32_768)
    """Longest answer, in tokens."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0 takes the likeliest token each time; higher is more varied."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling (Holtzman et al. 2020): only the likeliest tokens that together have this probability."""


class JudgeSection(Section):
    """A model behind an OpenAI-compatible address that grades answers (Zheng et al. 2023); optional."""

    url: str
    """Base address, such as http://127.0.0.1:8000/v1."""
    model: str
    """The judge's name there."""
    key: str = ""
    """API key; write ${NAME} to take it from the environment."""
    rows: int = Field(20, ge=1, le=1000)
    """Held-out rows that are judged."""


class TextGenerationSection(Section):
    """`task:` for a model that writes."""

    name: Literal["text-generation"] = "text-generation"
    """The task."""
    objective: Objective = "instructions"
    """What is learnt: `language-model` from plain text; `instructions` from instructions and chats, with loss on the
    assistant's words only; `preferences` from chosen and rejected answers (DPO, Rafailov et al. 2023)."""
    text: str = "text"
    """`language-model`: column with the document."""
    context: int = Field(256, ge=16, le=131_072)
    """Tokens that the model sees at once; longer documents are cut into parts, and longer chats lose their oldest turns
    (the system's words stay). The report of prepare says how many were cut."""
    system: str | None = None
    """System message of conversations that have none, in training and in serving."""
    join: str | None = "\n"
    """What stands between turns of one role in a row, which are joined to one, in training and in serving. `null` keeps
    them, and system messages further on, as they were written, where the model's chat template allows it."""
    learn: Learn = "every-answer"
    """`instructions`: which answers of a chat are learnt: each of the assistant's, or the last alone, to which those
    before it are context. A greeting before the user's first words is context either way."""
    fill: dict[str, str] = {}
    """Values for placeholders: `{{name}}` in a row becomes what `name` says here."""
    metric: MetricName | None = None
    """What early stopping, tune and compress compare models by; default `loss` (nats a trained token), and
    `reward_accuracy` for preferences."""
    answer: AnswerSection = AnswerSection()
    """How the server writes by default."""
    trait: str | None = None
    """A regular expression that answers should match; deploy measures the share that does as `trait_share`."""
    judge: JudgeSection | None = None
    """Grades answers to held-out rows in deploy's report."""

    @model_validator(mode="after")
    def _fits(self) -> TextGenerationSection:
        if (self.metric == "reward_accuracy") != (self.objective == "preferences") and self.metric is not None:
            raise ValueError("`metric: reward_accuracy` goes with `objective: preferences`, and only with it")
        return self

    @property
    def metric_name(self) -> MetricName:
        """The metric, its default filled in."""
        return self.metric or ("reward_accuracy" if self.objective == "preferences" else "loss")


class CausalLoraSection(Section):
    """Low-rank adapters (Hu et al. 2021) on all linear layers; merged into the weights before compress."""

    rank: int = Field(16, ge=1, le=1024)
    """Rank of the adapters."""
    alpha: float = Field(32.0, gt=0)
    """Scale of the adapters' output: alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapters."""


class GenerationTrainSection(FitSection):
    """`train:` for text generation: which model, and how it is trained."""

    model: str = SCRATCH
    """`llama` trains a Llama-shaped network from scratch; else a causal model of transformers: a hub name, or a folder
    such as runs/NAME/latest/train/model, which an earlier run of llmops wrote."""
    method: Literal["full", "lora"] = "full"
    """Train all weights, or adapters (pretrained models only)."""
    lora: CausalLoraSection = CausalLoraSection()
    """Settings of `method: lora`."""
    tokenizer: Literal["bpe", "characters"] = "bpe"
    """From scratch: byte-level byte-pair encoding (Sennrich et al. 2016), or one token a character."""
    vocabulary: int = Field(4096, ge=262, le=200_000)
    """From scratch with `bpe`: most tokens in the tokenizer trained on the data; 262 are bytes and special tokens."""
    width: int = Field(256, ge=8, le=8192)
    """From scratch: size of the hidden states."""
    layers: int = Field(4, ge=1, le=96)
    """From scratch: layers."""
    heads: int = Field(4, ge=1, le=128)
    """From scratch: attention heads; `width` is a multiple of it."""
    feed_forward: int | None = Field(None, ge=8)
    """From scratch: width of the feed-forward layers; default 8/3 of `width`, rounded up to a multiple of 32."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the embeddings and of each layer's outputs, in training."""
    pretrain_epochs: int = Field(0, ge=0, le=1000)
    """Instructions, from scratch: so many passes with loss on every token come first, then the others with loss on the
    assistant's words."""
    packing: bool = True
    """Put short rows together into sequences of `context` tokens; no row attends to another."""
    beta: float = Field(0.1, gt=0)
    """Preferences: how strongly the model is held to the one it started from (DPO's beta)."""
    chosen_weight: float = Field(0.0, ge=0)
    """Preferences: weight of the chosen answers' own loss, in nats a token, beside DPO's (Pang et al. 2024). DPO alone
    only widens a distance: it may never come to write what it prefers, or write it and find no end."""

    @model_validator(mode="after")
    def _fits_scratch(self) -> GenerationTrainSection:
        if self.model == SCRATCH and self.method != "full":
            raise ValueError("`method: lora` needs a pretrained model; `llama` is trained from scratch")
        if self.model == SCRATCH and self.width % self.heads:
            raise ValueError(f"`width` {self.width} is not a multiple of `heads` {self.heads}")
        return self

    @property
    def pretrained(self) -> bool:
        """Whether the model starts from weights that somebody trained."""
        return self.model != SCRATCH


class GenerationAcceptSection(AcceptSection):
    """Gates of text generation."""

    parity: Gate | None = Gate(at_least=0.97)
    """Share of held-out answer tokens on which the server's likeliest token is the trained model's."""
    loss: Gate | None = None
    """Nats per answer token (per token of documents) on held-out rows."""
    perplexity: Gate | None = None
    """exp of `loss`."""
    bits_per_byte: Gate | None = None
    """Bits per byte of UTF-8 of the same text; comparable between tokenizers."""
    chrf: Gate | None = None
    """chrF (Popovic 2015) of greedy answers against the written ones, 0 to 100."""
    exact_match: Gate | None = None
    """Share of greedy answers that equal the written ones, case and white space aside."""
    rouge_l: Gate | None = None
    """ROUGE-L F1 (Lin 2004) of greedy answers, 0 to 1."""
    reward_accuracy: Gate | None = None
    """Preferences: share of held-out pairs whose chosen answer the model raised more than the rejected one."""
    trait_share: Gate | None = None
    """Share of free answers that match `task.trait`."""
    judge_score: Gate | None = None
    """Mean grade of the judge, 1 to 10."""
    tokens_per_s: Gate | None = None
    """Tokens that one stream gets a second through HTTP on this machine."""
    first_token_p95_ms: Gate | None = None
    """95th percentile of the time to the first token through HTTP, in milliseconds."""
