"""The config blocks of text classification: `task:` and `train:`. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmops.core.accept import AcceptSection, Gate
from llmops.core.section import Section
from llmops.engine.config import FitSection

SCRATCH = ("bag-of-words", "text-cnn", "bilstm", "transformer")


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021): small matrices are trained, the pretrained weights stay."""

    rank: int = Field(default=8, ge=1, le=1024)
    """Rank of the adapters."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale of the adapters' output: alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapters."""


class UpdateSection(Section):
    """How a model is trained where a champion stands: from the champion's weights, and held to what it answers right
    (focal distillation, Yan et al. 2021, Positive-Congruent Training), so that a retrain changes few good answers."""

    rate: float = Field(default=0.33, gt=0, le=1)
    """Learning rates, as a share of those that a training from the pretrained model has."""
    hold: float = Field(default=1.0, ge=0, le=100)
    """Weight of the divergence from the champion's answers to training rows that it answers right, beside the loss on
    labels; 0 only starts from its weights."""
    temperature: float = Field(default=2.0, gt=0, le=100)
    """Both answers are softened by it before they are compared (Hinton et al. 2015)."""


class TextClassificationSection(Section):
    """`task:` for text classification: which column is the text, which the label."""

    name: Literal["text-classification"] = "text-classification"
    """The task."""
    text: str = "text"
    """Column with the text."""
    label: str = "label"
    """Column with the label; one label a row."""
    outside: str | None = None
    """Label of rows that belong to no class (out of scope). They are not trained as a class: validation uses
    them to choose the threshold below which the server abstains, the test set measures it."""
    metric: Literal["accuracy", "f1_macro", "f1_weighted", "balanced_accuracy"] = "accuracy"
    """What early stopping, tune and compress compare models by (scikit-learn's names)."""
    max_tokens: int = Field(128, ge=4, le=8192)
    """Longer texts are cut here; the report of prepare says how many were."""


class TextTrainSection(FitSection):
    """`train:` for text classification: which model, and how it is trained."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A network trained from scratch (bag-of-words, text-cnn, bilstm, transformer), or a pretrained encoder:
    a hub name, a local folder, or the name of a model that an installed package carries."""
    method: Literal["full", "lora", "frozen"] = "full"
    """Pretrained encoders only: train all weights, train adapters, or train only the head."""
    lora: LoraSection = LoraSection()
    """Settings of `method: lora`."""
    update: UpdateSection | None = None
    """Pretrained encoders only: with this block, `{}` for its defaults, a retrain starts from the champion; without
    it every training starts from the pretrained model."""
    pooling: Literal["mean", "first"] = "mean"
    """Pretrained encoders and transformer: a text's vector is the mean of its tokens' or the first token's."""
    head_learning_rate: float | None = Field(None, gt=0)
    """Learning rate of a pretrained encoder's new head; default ten times `learning_rate`, at most 1e-2."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the head (and inside networks trained from scratch)."""
    encoder_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout inside a pretrained encoder. 0 lets attention use a faster kernel."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """bag-of-words and text-cnn: share of words left out at random in each step (Iyyer et al. 2015)."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Probability mass spread over the other labels (Szegedy et al. 2016)."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs a class by the inverse of its count (scikit-learn's formula)."""
    vocabulary: int = Field(8000, ge=64, le=200_000)
    """Networks from scratch: tokens in the tokenizer trained on the data."""
    width: int = Field(128, ge=8, le=4096)
    """Networks from scratch: size of the embeddings and hidden layers."""
    layers: int = Field(2, ge=1, le=48)
    """Networks from scratch: layers of the transformer or BiLSTM."""

    @model_validator(mode="after")
    def _fits(self) -> TextTrainSection:
        if self.model in SCRATCH and self.method != "full":
            raise ValueError(
                f"`method: {self.method}` needs a pretrained encoder; {self.model} is trained from scratch"
            )
        if self.model in SCRATCH and self.update is not None:
            raise ValueError(
                f"`update` needs a pretrained encoder; the tokenizer of a {self.model} changes with the rows"
            )
        return self

    @property
    def pretrained(self) -> bool:
        """Whether the model is a pretrained encoder."""
        return self.model not in SCRATCH

    def head_rate(self) -> float:
        """Learning rate of the head: a new head on a pretrained encoder learns faster than the encoder."""
        if not self.pretrained:
            return self.learning_rate
        return self.head_learning_rate or max(self.learning_rate, min(10 * self.learning_rate, 1e-2))


class TextAcceptSection(AcceptSection):
    """Gates of text classification."""

    accuracy: Gate | None = None
    """Share of in-scope test rows answered right (plain argmax, abstention aside)."""
    f1_macro: Gate | None = None
    """Mean F1 over classes."""
    balanced_accuracy: Gate | None = None
    """Mean recall over classes."""
