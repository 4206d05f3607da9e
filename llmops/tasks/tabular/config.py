"""The config blocks of tables: `task:`, `train:` and the gates. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from llmops.core.accept import AcceptSection, CostsSection, Gate
from llmops.core.section import Section
from llmops.engine.config import FitSection
from llmops.fields.config import FieldSection

KindName = Literal["linear", "trees", "forest", "network"]
ModelName = Literal["blend", "linear", "trees", "forest", "network"]


class MaturitySection(Section):
    """When a row's outcome is known: rows too young for it stay out."""

    date: str
    """Column with the date from which the outcome takes its time (the day a loan was paid out)."""
    days: float = Field(gt=0)
    """Days until the outcome is known; rows younger than this on the newest date of the data stay out."""


class TabularSection(Section):
    """`task:` for tables: which columns go in, and what is predicted."""

    name: Literal["tabular"] = "tabular"
    """The task."""
    target: str
    """Column that is predicted."""
    predict: Literal["class", "number"] = "class"
    """One of two or more classes, or a number."""
    decimal: Literal[".", ","] = "."
    """What stands before the decimals of a number that is predicted, as a field's `decimal`."""
    positive: str | None = None
    """Of two classes, the event that probabilities are of (default, churned); absent: the rarer one."""
    fields: dict[str, FieldSection] = Field(min_length=1)
    """The columns that a request brings, and what kind of value each holds; `income: number` for short."""
    id: str | None = None
    """Column by which an outcome that comes later finds its row; requests may bring it."""
    weight: str | None = None
    """Column with a row's weight in training and in metrics; absent: every row counts 1."""
    outcome: MaturitySection | None = None
    """Rows too young to have an outcome stay out."""
    metric: Literal["auto", "roc_auc", "average_precision", "log_loss", "accuracy", "f1_macro", "rmse", "mae", "r2"] = (
        "auto"
    )
    """What models are compared by (scikit-learn's names; roc_auc of more than two classes: the mean of one against the
    rest); auto: roc_auc for classes, rmse for a number."""
    coverage: float = Field(0.9, gt=0.5, lt=1)
    """Numbers: share of rows whose true value the answer's interval is to hold."""
    reasons: int = Field(3, ge=0, le=50)
    """Columns that an answer names as its reasons when a request doesn't say how many."""

    @field_validator("fields", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`income: number` means `income: {kind: number}`."""
        if not isinstance(value, dict):
            return value
        return {name: {"kind": field} if isinstance(field, str) else field for name, field in value.items()}

    @property
    def metric_name(self) -> str:
        """The metric, `auto` resolved."""
        if self.metric != "auto":
            return self.metric
        return "roc_auc" if self.predict == "class" else "rmse"

    @property
    def metric_higher(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric_name not in ("log_loss", "rmse", "mae")

    @model_validator(mode="after")
    def _apart(self) -> TabularSection:
        if self.target in self.fields:
            raise ValueError(f"`{self.target}` is the target; take it out of `fields`")
        if not any(field.learn and field.kind != "id" for field in self.fields.values()):
            raise ValueError("no field is left to learn from")
        numbers = {"rmse", "mae", "r2"}
        if self.metric != "auto" and (self.metric in numbers) != (self.predict == "number"):
            raise ValueError(f"`metric: {self.metric}` does not go with `predict: {self.predict}`")
        if self.positive is not None and self.predict == "number":
            raise ValueError("a number has no `positive` class")
        return self


class BriefedSection(TabularSection):
    """`task:` with what `need:` asks of the answers. No config has this block; stages are handed it."""

    costs: CostsSection | None = None
    """What mistakes cost."""
    slices: list[str] = []
    """Fields by whose values figures are told apart."""


class LinearSection(Section):
    """Logistic or linear regression on standardised columns."""

    strength: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = "auto"
    """Inverse strength of the L2 penalty (scikit-learn's C); auto: up to 2,000 rows the best of eight by
    cross-validation, above 1."""


class TreesSection(Section):
    """Gradient-boosted trees (Friedman 2001; LightGBM, Ke et al. 2017)."""

    rounds: int = Field(1000, ge=1, le=100_000)
    """Trees at most; early stopping on held-out rows ends sooner."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = "auto"
    """Share of each new tree that is added; auto: 0.03 up to 5,000 training rows, else 0.05."""
    leaves: Annotated[int, Field(ge=2, le=1024)] | Literal["auto"] = "auto"
    """Leaves of a tree at most; auto: 8 up to 5,000 training rows, else 16. More make reasons slower, too."""
    depth: int = Field(6, ge=1, le=12)
    """Depth of a tree at most."""
    min_rows: int = Field(10, ge=1, le=1_000_000)
    """Rows in a leaf at least."""
    columns: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = "auto"
    """Share of features that each tree may look at; auto: 0.3 up to 5,000 training rows (trees that differ from one
    another average better), else 0.8."""
    rows: float = Field(0.7, gt=0, le=1)
    """Share of rows that each tree is grown on."""
    l2: float = Field(1.0, ge=0, le=1e6)
    """L2 penalty on the leaves' values."""
    extra: bool = False
    """Split at thresholds drawn by chance (extremely randomised trees, Geurts et al. 2006): less exact, more different
    from one another, which helps where rows are few."""
    patience: int = Field(100, ge=1, le=10_000)
    """Rounds without a better held-out loss after which boosting stops."""


class ForestSection(Section):
    """A random forest (Breiman 2001): deep trees grown apart and averaged."""

    trees: int = Field(25, ge=1, le=10_000)
    """Trees, in each fold."""
    leaves: int = Field(32, ge=2, le=4096)
    """Leaves of a tree at most."""
    depth: int = Field(8, ge=1, le=16)
    """Depth of a tree at most."""
    min_rows: int = Field(3, ge=1, le=1_000_000)
    """Rows in a leaf at least."""
    columns: float = Field(0.2, gt=0, le=1)
    """Share of features that each split may look at."""
    rows: float = Field(0.63, gt=0, lt=1)
    """Share of rows that each tree is grown on."""


class NetworkSection(FitSection):
    """A neural network for tables (TabM, Gorishniy et al. 2025; RealMLP, Holzmueller et al. 2024), trained by the
    engine."""

    epochs: int = Field(60, ge=1, le=10_000)
    """Passes over the training rows, at most."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    batch_size: int = Field(256, ge=1, le=65_536)
    """Rows in one step."""
    patience: int = Field(10, ge=0)
    """Stop after this many epochs without a better validation loss; the best epoch is kept."""
    width: int = Field(128, ge=8, le=4096)
    """Size of the hidden layers."""
    layers: int = Field(3, ge=1, le=16)
    """Hidden layers."""
    members: int = Field(8, ge=1, le=64)
    """Networks that share most of their weights and are averaged."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the hidden layers."""


class TabularTrainSection(Section):
    """`train:` for tables: which model, and how it is trained."""

    model: ModelName = "blend"
    """linear; trees (boosted); forest (random); network; blend: the average of several kinds, weighted by what held-out
    rows show."""
    members: Annotated[list[KindName], Field(min_length=1)] | Literal["auto"] = "auto"
    """blend: the kinds that may take part. auto: all four up to 5,000 training rows, linear, trees and network up to
    20,000, else linear and trees: what the others add there does not pay for their time."""
    folds: int | Literal["auto"] = "auto"
    """Parts of the training rows, each predicted by a model that never saw it: these answers choose the blend's weights
    and calibrate, and the models are averaged. auto: 8 below 5,000 rows, 5 below 20,000, else 1, which holds validation
    rows against it instead."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs a class by the inverse of its count; calibration puts the probabilities right again."""
    linear: LinearSection = LinearSection()
    """Settings of the linear model."""
    trees: TreesSection = TreesSection()
    """Settings of the boosted trees."""
    forest: ForestSection = ForestSection()
    """Settings of the random forest."""
    network: NetworkSection = NetworkSection()
    """Settings of the network."""

    @field_validator("folds")
    @classmethod
    def _folds(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 50:
            raise ValueError("`folds` is a number from 1 to 50, or auto")
        return value


class TabularAcceptSection(AcceptSection):
    """Gates of tables. Those of classes and those of numbers stand together; a figure that was not measured fails."""

    roc_auc: Gate | None = None
    """Area under the ROC curve: the chance that an event scores above another row."""
    average_precision: Gate | None = None
    """Area under the precision-recall curve; for rare events."""
    accuracy: Gate | None = None
    """Share of rows decided right."""
    f1_macro: Gate | None = None
    """Mean F1 over classes."""
    recall: Gate | None = None
    """Share of events that are found at the threshold."""
    precision: Gate | None = None
    """Share of alarms that are events."""
    log_loss: Gate | None = None
    """Mean negative logarithm of the true class's probability."""
    brier: Gate | None = None
    """Mean squared difference of probability and outcome (Brier 1950)."""
    calibration_error: Gate | None = None
    """Expected calibration error: mean distance of probability and share of events over ten bins of equal counts."""
    expected_cost: Gate | None = None
    """Mean cost of a decision by `need.costs`."""
    rmse: Gate | None = None
    """Root of the mean squared error."""
    mae: Gate | None = None
    """Mean absolute error."""
    r2: Gate | None = None
    """Share of the variance explained."""
    interval_coverage: Gate | None = None
    """Share of rows whose true value lies in the answer's interval."""
    true_positive_rate_gap: Gate | None = None
    """Largest difference of the share of events found between groups of a `need.slices` column."""
    selection_rate_gap: Gate | None = None
    """Largest difference of the share of alarms between groups of a `need.slices` column."""
