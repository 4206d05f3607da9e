"""The config block `prepare:`. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from llmops.core.section import Section
from llmops.fields.config import UNCLEANED, AugmentStep, CleanStep
from llmops.records.config import SourceSection

S = TypeVar("S", bound=Section)
VERBS = ("clean", "dedup", "split", "augment")


class DedupStep(Section):
    """Duplicates go before the split, so that no test row has a twin in training. Rows with another answer to the same
    text stay."""

    near: float | None = Field(0.9, gt=0, le=1)
    """Jaccard similarity of word/character shingles from which rows are twins; null: exact duplicates only."""


class SplitStep(Section):
    """Where rows go. A row's split depends on the row (or its group) alone, so that growing data never moves it."""

    valid: float = Field(0.1, gt=0, lt=1)
    """Share of rows for validation."""
    test: float = Field(0.1, ge=0, lt=1)
    """Share of rows for testing; ignored when `test_file` is given."""
    by: Literal["row", "group", "time", "order"] = "row"
    """`row`: hash of the text; `group`: hash of the column `group`; `time`: the newest rows by the column `time`;
    `order`: the last rows in the order of the files, the shares counted in characters, for running text."""
    group: str | None = None
    """Column whose rows stay together (a customer, a conversation)."""
    time: str | None = None
    """Column with an ISO date or a number."""
    stratify: bool = True
    """Every label with three rows outside the test set reaches validation, and its first one trains; without it, and
    where rows have no labels, the hash alone decides."""
    test_file: str | None = None
    """Your own test file, left untouched; training rows that are also in it are dropped as `also_in_test`."""

    @model_validator(mode="after")
    def _complete(self) -> SplitStep:
        if self.by in ("group", "time") and getattr(self, self.by) is None:
            raise ValueError(f"`by: {self.by}` needs `{self.by}:`, the name of a column")
        if self.valid + (0 if self.test_file else self.test) >= 1:
            raise ValueError("`valid` and `test` together leave nothing to train on; their sum must be below 1")
        return self


class Steps(Section):
    """One item of `steps`: exactly one of these keys."""

    clean: CleanStep | None = None
    """Clean texts."""
    dedup: DedupStep | None = None
    """Remove duplicates."""
    split: SplitStep | None = None
    """Split into train, valid and test."""
    augment: AugmentStep | None = None
    """Augment the train split."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        """`- dedup:` with nothing after it means its defaults."""
        if isinstance(value, dict) and len(value) == 1:
            return {verb: {} if settings is None else settings for verb, settings in value.items()}
        return value

    @model_validator(mode="after")
    def _one(self) -> Steps:
        if sum(getattr(self, verb) is not None for verb in VERBS) != 1:
            raise ValueError("a step is exactly one of `clean`, `dedup`, `split`, `augment`")
        return self

    @property
    def verb(self) -> str:
        """The key that is given."""
        return next(verb for verb in VERBS if getattr(self, verb) is not None)


class PrepareSection(Section):
    """`prepare:` where rows come from, and what is done to them, in order."""

    sources: Annotated[list[str | SourceSection], Field(min_length=1)]
    """Files, folders or data sets; rows of all are put together."""
    unlabelled: str | SourceSection | Annotated[list[str | SourceSection], Field(min_length=1)] | None = None
    """Texts that nobody gave a label, one source or a list, read like `sources` but for the label (of plain text, .txt,
    each line): `train.few` reads them before the rows. Texts of the data set are left out. The traffic's texts that
    nobody corrected: write traffic/PROJECT/unlabelled.jsonl, and `feedback` keeps that file."""
    steps: list[Steps] = [Steps(clean=CleanStep()), Steps(dedup=DedupStep()), Steps(split=SplitStep())]
    """Verbs in the order clean, dedup, split, augment; one of each at most, split always."""
    feedback: bool = True
    """Corrections that `feedback` harvested join the training rows."""
    max_bad_rows: float = Field(0.05, ge=0, le=1)
    """Share of unreadable or incomplete rows above which prepare stops."""

    @model_validator(mode="after")
    def _ordered(self) -> PrepareSection:
        verbs = [step.verb for step in self.steps]
        if len(set(verbs)) < len(verbs) or verbs != sorted(verbs, key=VERBS.index):
            raise ValueError("`steps` go in the order clean, dedup, split, augment, each at most once")
        if "split" not in verbs:
            raise ValueError("`steps` lacks `split`; without it there is nothing to validate and test on")
        return self

    def step(self, kind: type[S]) -> S | None:
        """The step of this class, when it is among `steps`."""
        found = (getattr(step, step.verb) for step in self.steps)
        return next((step for step in found if isinstance(step, kind)), None)

    @property
    def cleaning(self) -> CleanStep:
        """How texts are cleaned, before training and before serving."""
        return self.step(CleanStep) or UNCLEANED
