"""The config blocks of fields: how texts are cleaned (before training and before serving), how rows are reworded."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, field_validator

from llmops.core.section import Section

Redactable = Literal["email", "phone", "card", "iban", "ip", "url"]


class CleanStep(Section):
    """Unicode, white space and personal data; the same code runs before training and before serving."""

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    """Normal form of Unicode."""
    whitespace: bool = True
    """Runs of white space become one space; ends are trimmed; control characters go."""
    lowercase: bool = False
    """Lower-case everything."""
    redact: list[Redactable] = []
    """Kinds of personal data that become a placeholder such as <email>."""


UNCLEANED = CleanStep(unicode="none", whitespace=False)
"""What a config without a `clean` step means: texts stay as they are."""


class AugmentStep(Section):
    """New rows from old ones, on the train split only (Wei and Zou 2019, EDA); for tasks with labels."""

    copies: float = Field(1.0, gt=0, le=20)
    """New rows for each training row, on average."""
    swap: float = Field(0.1, ge=0, le=1)
    """Share of words that change places."""
    delete: float = Field(0.1, ge=0, le=1)
    """Share of words left out."""
    typos: float = Field(0.05, ge=0, le=1)
    """Share of words that get a typing mistake."""
    synonyms: str | None = None
    """A CSV of your own, `word,synonym` a row: words are swapped for one of their synonyms."""


KindName = Literal["text", "category", "number", "date", "flag", "id"]


class FieldSection(Section):
    """A field of a row: what kind of value it holds, and how it is read and used."""

    kind: KindName
    """text: words; category: one of a set; number; date; flag: yes or no; id: tells rows apart and teaches nothing."""
    learn: bool = True
    """Whether the model sees it; a protected column can be kept from it and still be sliced by."""
    decimal: Literal[".", ","] = "."
    """number: what stands before the decimals; the other one may set thousands apart."""
    dates: str | None = None
    """date: how dates are written, as for strptime (`%d.%m.%Y`); absent: ISO 8601."""
    missing: list[str] = []
    """Words that mean that there is no value, besides an empty cell and (but for a text) NA, N/A, NaN, null, none, `-`
    and `?`; a number here (`-999`) is missing however it is written."""
    monotone: Literal["increasing", "decreasing"] | None = None
    """number, date: the answer may only rise (or fall) with it; boosted trees and linear models hold to it."""

    @field_validator("dates")
    @classmethod
    def _reads(cls, value: str | None) -> str | None:
        """A day that is written so must be read as the same year again."""
        day = datetime(2026, 11, 22, tzinfo=UTC)
        try:
            read = datetime.strptime(day.strftime(value), value) if value else day
        except (ValueError, re.error):
            read = None
        if read is None or read.year != day.year:
            raise ValueError(f"`dates: {value}` is no way to write dates, as for strptime; 22.11.2026 is %d.%m.%Y")
        return value
