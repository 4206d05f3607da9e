"""The config blocks of text classification: `task:` and `train:`. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from llmops.core.accept import AcceptSection, Gate
from llmops.core.section import Section
from llmops.engine.config import FitSection
from llmops.tasks.text_classification.few.config import FewSection

SCRATCH = ("bag-of-words", "text-cnn", "bilstm", "transformer")
MetricOfOne = Literal[
    "accuracy", "f1_macro", "f1_weighted", "balanced_accuracy", "roc_auc", "average_precision", "recall"
]
"""What models that give one label are compared by."""
MetricOfMany = Literal["f1_micro", "f1_macro", "subset_accuracy", "average_precision"]
"""What models that give several labels are compared by."""
GATES_OF_ONE = frozenset(
    ("accuracy", "balanced_accuracy", "roc_auc", "recall", "coverage", "answered_accuracy", "outside_recall")
)
GATES_OF_MANY = frozenset(("f1_micro", "subset_accuracy", "hamming_loss"))
"""Gates on figures that only answers of one label, and only those of several, have."""


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


class CostOfAnswers(Section):
    """What mistakes cost, in any unit; a right answer, and a question of no class that is kept back, cost nothing. The
    threshold is the one that would have cost least on the validation rows, so these should hold as many questions of no
    class as customers send."""

    wrong: float = Field(5.0, ge=0)
    """A wrong answer to a question that belongs to a class."""
    withheld: float = Field(1.0, gt=0)
    """A question that belongs to a class and gets no answer: a person must look."""
    outside: float | None = Field(None, ge=0)
    """An answer to a question that belongs to no class; absent: as much as a wrong one."""

    @model_validator(mode="after")
    def _costs_something(self) -> CostOfAnswers:
        if not self.wrong and not self.outside:
            raise ValueError("at least one of `wrong` and `outside` must cost something; else write `abstain: never`")
        return self


class AbstainSection(Section):
    """When the server keeps its answer back (abstains), because it is not sure enough; a person can look then. Write
    `never`, or exactly one of the others: `abstain: {coverage: 0.95}`. The threshold that gives it is chosen on
    validation rows, so on other rows it holds nearly."""

    never: Literal[True] | None = None
    """Every question is answered; `abstain: never` for short."""
    coverage: float | None = Field(None, gt=0, le=1)
    """At least this share of the questions that belong to a class is answered; within that, as many questions of no
    class as can be (without such rows: the least sure answers) are kept back."""
    answered_accuracy: float | None = Field(None, gt=0, le=1)
    """This share of the answers to questions that belong to a class is right; as many as can be are given."""
    outside_recall: float | None = Field(None, gt=0, le=1)
    """This share of the questions that belong to no class is kept back; needs rows with the label `outside`."""
    cost: CostOfAnswers | None = None
    """What mistakes cost, such as {wrong: 5, withheld: 1, outside: 5}; the cheapest threshold is taken."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`abstain: never` means `abstain: {never: true}`."""
        if value == "never":
            return {"never": True}
        if not isinstance(value, dict | AbstainSection):
            raise ValueError("write `never`, or one wish such as {coverage: 0.95}")
        return value

    @model_validator(mode="after")
    def _one_wish(self) -> AbstainSection:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"here stand {' and '.join(given)}" if given else "here stands none"
            raise ValueError(f"write exactly one of {', '.join(type(self).model_fields)}; {found}")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        """The schema for editors knows the short form."""
        return {"anyOf": [handler(schema), {"const": "never", "type": "string"}]}


def _names_as_text(value: Any) -> Any:
    """YAML reads 1 as a number; here it is a label's name."""
    if type(value) is int:
        return str(value)
    if not isinstance(value, dict):
        return value
    return {str(name) if type(name) is int else name: words for name, words in value.items()}


class TextClassificationSection(Section):
    """`task:` for text classification: which column is the text, which the label (or the labels)."""

    name: Literal["text-classification"] = "text-classification"
    """The task."""
    text: str = "text"
    """Column with the text."""
    label: str | list[str] = "label"
    """Column with the label. With `labels: many` the column with the labels, or a list of columns that each say by 1 or
    0 (true or false, yes or no; nothing means no) whether the row has the label that the column is called by."""
    labels: Literal["one", "many"] = "one"
    """How many labels a row has: `one`, or `many`: any number of them, also none."""
    separator: str | None = None
    """With `labels: many`: what stands between the labels in a cell, such as ";". A cell that is a JSON list is always
    read as one; without a separator any other cell is one label."""
    empty: Literal["keep", "drop"] = "keep"
    """With `labels: many`: what a row without any label means. `keep`: somebody looked, and none of the labels fits; it
    is trained on as such. `drop`: nobody looked; the row is left out and counted ("no label")."""
    positive: Annotated[str | None, BeforeValidator(_names_as_text)] = None
    """Of two labels, the event that recall, average_precision and the curves are of (spam, fraud); absent: the rarer
    one."""
    describe: Annotated[dict[str, str] | Literal["labels"] | None, BeforeValidator(_names_as_text)] = None
    """Classes in words, such as {card_lost: "the card is lost or was stolen"}: each description trains as a row of its
    class, which so has a meaning before it has rows; `labels` takes the labels' own words (card_lost: card lost)."""
    outside: Annotated[str | None, BeforeValidator(_names_as_text)] = None
    """Label of rows that belong to no class (out of scope). They are not trained as a class: validation uses
    them to choose how and when the server abstains (keeps its answer back), the test set measures it."""
    abstain: AbstainSection | None = None
    """When the server keeps its answer back (abstains) because it is not sure enough, so that a person can look:
    `never`, or one of {coverage: 0.95}, {answered_accuracy: 0.97}, {outside_recall: 0.9}, {cost: {wrong: 5, withheld:
    1, outside: 5}}. Absent: 98 % of the right answers are given, and within that as many questions of no class as can
    be (without rows `outside`: the least sure answers) are kept back. The report shows what other thresholds would do.
    """
    metric: MetricOfOne | MetricOfMany = "accuracy"
    """What early stopping, tune and compress compare models by (scikit-learn's names): accuracy, f1_macro, f1_weighted,
    balanced_accuracy, roc_auc or average_precision (of more than two labels the mean of one against the rest), recall
    (of two labels the share of events found); with `labels: many` f1_micro (which is meant where nothing stands),
    f1_macro, subset_accuracy or average_precision."""
    max_tokens: int = Field(128, ge=4, le=8192)
    """Longer texts are cut here; the report of prepare says how many were."""

    @model_validator(mode="before")
    @classmethod
    def _usual_metric(cls, value: Any) -> Any:
        """Where there may be several labels, f1_micro."""
        many = isinstance(value, dict) and value.get("labels") == "many"
        return {"metric": "f1_micro", **value} if many else value

    @property
    def several(self) -> bool:
        """Whether a row may have several labels."""
        return self.labels == "many"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold the label or the labels."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)

    @model_validator(mode="after")
    def _one_or_many(self) -> TextClassificationSection:
        """What is for several labels alone stands only beside `labels: many`, and the other way round."""
        allowed = get_args(MetricOfMany if self.several else MetricOfOne)
        if self.metric not in allowed:
            raise ValueError(f"`metric: {self.metric}` is not for `labels: {self.labels}`: take {', '.join(allowed)}")
        if self.several:
            self._fits_many()
        elif self.separator is not None or self.empty != "keep":
            raise ValueError(f"`{'empty' if self.separator is None else 'separator'}` is for `labels: many`")
        elif not isinstance(self.label, str):
            raise ValueError("`label` names several columns: write `labels: many` beside it, or one column")
        return self

    def _fits_many(self) -> None:
        """Raises ValueError in words."""
        if self.positive is not None:
            raise ValueError("`positive` is not for `labels: many`: each label is an event of its own")
        if self.outside is not None:
            raise ValueError("`outside` is not for `labels: many`: a row that no label fits has none, an empty list")
        if self.abstain is not None and not self.abstain.never:
            raise ValueError(
                "`abstain` is not for `labels: many`: a label is given from its own threshold on, and there may be none"
            )
        if isinstance(self.label, list):
            if len(self.label) < 2 or len(set(self.label)) < len(self.label):
                raise ValueError("`label` as a list names two columns or more, each once")
            if self.separator is not None:
                raise ValueError("`separator` is for one column of labels; here `label` names several columns")
        if self.separator is not None and not self.separator:
            raise ValueError('`separator` is empty; write what stands between two labels, such as ";"')

    @model_validator(mode="after")
    def _knows_outside(self) -> TextClassificationSection:
        wish = self.abstain
        if self.outside is not None or wish is None:
            return self
        asked = "outside_recall" if wish.outside_recall is not None else "cost.outside"
        if wish.outside_recall is not None or (wish.cost is not None and wish.cost.outside is not None):
            raise ValueError(
                f"`abstain: {asked}` needs rows that belong to no class: name their label with `outside`, or choose "
                "`coverage` or `answered_accuracy`"
            )
        return self


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
    few: FewSection | None = None
    """Pretrained encoders only: with this block, `{}` for its defaults, a training that suits few rows a class."""
    pooling: Literal["mean", "first"] = "mean"
    """Pretrained encoders and transformer: a text's vector is the mean of its tokens' or the first token's."""
    head_learning_rate: float | None = Field(None, gt=0)
    """Learning rate of a pretrained encoder's new head; default ten times `learning_rate`, at most 1e-2; with `few`,
    whose weights are larger, 1e-2."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the head (and inside networks trained from scratch)."""
    encoder_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout inside a pretrained encoder. 0 lets attention use a faster kernel."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """bag-of-words and text-cnn: share of words left out at random in each step (Iyyer et al. 2015)."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Probability mass spread over the other labels (Szegedy et al. 2016); with `labels: many` a wrong label aims at
    half of it, and a right one at 1 less that half."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs a class by the inverse of its count (scikit-learn's formula); with `labels: many` a row with a
    label weighs rows without it / rows with it, at most 100."""
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
        if self.model in SCRATCH and self.few is not None:
            raise ValueError(f"`few` needs a pretrained encoder; {self.model} is trained from scratch")
        if self.few is not None and self.update is not None:
            raise ValueError("`few` and `update` exclude each other: few rows are trained from the pretrained encoder")
        return self

    @property
    def pretrained(self) -> bool:
        """Whether the model is a pretrained encoder."""
        return self.model not in SCRATCH

    def head_rate(self) -> float:
        """Learning rate of the head: a new head on a pretrained encoder learns faster than the encoder."""
        if not self.pretrained:
            return self.learning_rate
        usual = 1e-2 if self.few else min(10 * self.learning_rate, 1e-2)
        return self.head_learning_rate or max(self.learning_rate, usual)


class TextAcceptSection(AcceptSection):
    """Gates of text classification."""

    accuracy: Gate | None = None
    """Share of in-scope test rows answered right (plain argmax, abstention aside)."""
    f1_macro: Gate | None = None
    """Mean F1 over classes."""
    balanced_accuracy: Gate | None = None
    """Mean recall over classes."""
    f1_micro: Gate | None = None
    """With `labels: many`: F1 of all labels given, over rows and labels together."""
    subset_accuracy: Gate | None = None
    """With `labels: many`: share of test rows that get exactly the right labels."""
    hamming_loss: Gate | None = None
    """With `labels: many`: share of wrong decisions, of all rows and labels; lower is better."""
    roc_auc: Gate | None = None
    """Area under the ROC curve: the chance that an event scores above another row; of more than two classes the mean of
    each against the rest."""
    average_precision: Gate | None = None
    """Area under the precision-recall curve, for rare events; of more classes, or several labels, the mean over
    them."""
    recall: Gate | None = None
    """Of two classes, share of the event's test rows that are found (plain argmax, abstention aside)."""
    coverage: Gate | None = None
    """Share of in-scope test rows that get an answer (the server does not abstain)."""
    answered_accuracy: Gate | None = None
    """Share of those answers that are right."""
    outside_recall: Gate | None = None
    """Share of test rows with the label `outside` from which the server abstains."""
