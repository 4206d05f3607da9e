"""The config block of a source of rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from llmops.core.section import Section


class SourceSection(Section):
    """A source in long form."""

    path: str
    """A file, a folder of text (with labels: one folder per label, one file per row), a Hugging Face data set saved to
    disk, or `hf://NAME` for one on the hub."""
    format: Literal["auto", "csv", "jsonl", "json", "text", "parquet", "folder", "hf"] = "auto"
    """What it is; `auto` goes by the ending. `json` is an array of objects; `text` is plain text without columns, which
    `auto` takes `.txt`, `.md` and folders for when the task reads one column."""
    rows: Literal["paragraphs", "lines", "file"] = "paragraphs"
    """Plain text: what one row is; paragraphs are set apart by blank lines. Rows know the document they are a part
    of."""
    split: str = "train"
    """Hugging Face data sets: which split."""
    revision: str | None = None
    """Hugging Face data sets: which revision, so that the data cannot change under you."""
    encoding: str | None = None
    """Text encoding; found out when absent."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """CSV delimiter; found out when absent."""

    join: str | None = None
    """Column by which this table's columns join the rows of the sources above it (tables only): each key at most once
    in this table; rows without a match have no values there."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        try:
            "a".encode(value or "utf-8")
        except LookupError:
            raise ValueError(f"Python knows no text encoding `{value}`; try utf-8, cp1252 or gb18030") from None
        return value


def as_source(source: str | SourceSection) -> SourceSection:
    """A source of the config in its long form."""
    return SourceSection(path=source) if isinstance(source, str) else source
