"""The config block of a source of rows."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmops.core.section import Section

DATABASE = re.compile(r"(?!hf:)[A-Za-z]\w*(\+\w+)?://")
QUERY = re.compile(r"(\s|\(|--[^\n]*\n|/\*.*?\*/)*(SELECT|WITH|VALUES)\b", re.IGNORECASE | re.DOTALL)
"""What a query begins with that reads and does nothing else."""
SECRET = re.compile(r"(://[^:@/]*):.*@")


class SourceSection(Section):
    """A source in long form."""

    path: str
    """A file, a folder of text (with labels: one folder per label, one file per row), a Hugging Face data set saved to
    disk, `hf://NAME` for one on the hub, or a database as SQLAlchemy writes it: `sqlite:///loans.db`,
    `postgresql+psycopg://reader:${DB_PASSWORD}@host/bank` (in a password, `@` is `%40`)."""
    table: str | None = None
    """Databases: which table or view; absent: the only one."""
    query: str | None = None
    """Databases: instead of a table, a SELECT."""
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

    @model_validator(mode="after")
    def _one_place(self) -> SourceSection:
        if self.table is not None and self.query is not None:
            raise ValueError("give `table` or `query`, not both")
        if (self.table or self.query) and not is_database(self):
            raise ValueError("`table` and `query` are of databases; `path` is none, such as sqlite:///loans.db")
        if self.query is not None and not QUERY.match(self.query):
            raise ValueError("`query` only reads: it begins with SELECT or WITH")
        return self


def as_source(source: str | SourceSection) -> SourceSection:
    """A source of the config in its long form."""
    return SourceSection(path=source) if isinstance(source, str) else source


def is_database(source: str | SourceSection) -> bool:
    """Whether a source is a table of a database."""
    return DATABASE.match(as_source(source).path) is not None


def shown(source: str | SourceSection) -> str:
    """What a source is called before people: its path; a database's without the password, and without what stands
    behind a `?`, where some drivers take it."""
    source = as_source(source)
    return SECRET.sub(r"\1:***@", source.path.partition("?")[0]) if is_database(source) else source.path
