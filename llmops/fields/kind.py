"""Kind: all that is true of one kind of value, wherever such a value turns up.

A field of a row has a kind; the stages, the server and the page ask the kind and never know what the value is. Single
values are plain Python (None: missing). Whole columns are Arrow arrays on disk and numpy arrays when they are computed
with: float64 (NaN: missing) for numbers, dates and flags, objects (str or None) for the others. What a column's cells
mean is said once, by `read`; `read_column` is the same for millions of cells, and a test holds the two together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmops.core.report import Number
from llmops.fields.config import CleanStep, FieldSection
from llmops.fields.permutation import Shift

if TYPE_CHECKING:
    import pyarrow as pa

Column = np.ndarray[Any, Any]
"""Values of one field: float64 with NaN for missing, or objects (str or None)."""
Keys = np.ndarray[Any, np.dtype[np.uint64]]


class BadCell(ValueError):
    """A cell that is no such value; the message says why, in a few words that can be counted ("not a number")."""


@dataclass(frozen=True)
class ReadColumn:
    """A column as its kind read it: values (bad cells are missing there), and the bad cells' places with why."""

    values: pa.Array
    bad: dict[int, str]


@dataclass(frozen=True)
class Drifted:
    """One two-sample test on a field: the name of what it looks at ("income", "words of text"), the shift; for people,
    how that is compared, and what moved in words ("median 21,000 -> 34,000")."""

    test: str
    shift: Shift
    about: str
    told: list[str] = field(default_factory=list)


class Kind(ABC):
    """One kind of value, with the settings that the config gives a field of it."""

    name: ClassVar[str]
    numeric: ClassVar[bool]
    """Whether columns are float64; else they are objects."""
    compared: ClassVar[int] = 5000
    """Rows that a two-sample test compares at most, on each side."""

    def __init__(self, section: FieldSection) -> None:
        self.section = section
        self.missing = frozenset(word.strip().casefold() for word in section.missing)

    # --- reading -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, cell: Any) -> Any:
        """The value of one cell (text of a CSV, or what JSON, Parquet or SQL hold); None where it is missing. Raises
        BadCell."""

    @abstractmethod
    def read_column(self, cells: pa.Array | pa.ChunkedArray) -> ReadColumn:
        """`read` for a whole column. Never raises for a cell."""

    @abstractmethod
    def column(self, values: Sequence[Any]) -> Column:
        """Values as `read` gives them (None: missing) as a numpy column."""

    @abstractmethod
    def numpy(self, values: pa.Array | pa.ChunkedArray) -> Column:
        """An Arrow column as `read_column` gives it as a numpy column."""

    def arrow(self, column: Column) -> pa.Array:
        """A numpy column as an Arrow one of the type that `read_column` gives."""
        import pyarrow as pa

        return self.read_column(pa.array(column, from_pandas=True)).values

    # --- cleaning, redaction -----------------------------------------------------------------------------------------

    def cleaned(self, value: Any, step: CleanStep) -> Any:
        """A value as the model sees it, before training and before serving."""
        return value

    def redacted(self, value: Any, redact: Callable[[str], str]) -> Any:
        """A value as the traffic log keeps it."""
        return redact(value) if isinstance(value, str) else value

    # --- equality ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def key(self, value: Any) -> str:
        """What two equal values share; stable for ever, for a row's split is hashed from it."""

    @abstractmethod
    def keys(self, values: Column) -> Keys:
        """One 64-bit number for each value: equal for equal keys, stable for ever."""

    def near(self, similarity: float, keys: Sequence[str]) -> Any | None:
        """An index of values that all but agree (`neartwins.NearIndex`); None where nearness says nothing."""
        return None

    # --- looking -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def profile(self, values: Column) -> Mapping[str, Number]:
        """A few figures of a column for a report: share missing, distinct values, and what suits the kind."""

    @abstractmethod
    def known(self, values: Column) -> dict[str, Any]:
        """What training saw, JSON-able and small: travels in the bundle, for the schema and for "unseen"."""

    def unseen(self, value: Any, known: Mapping[str, Any]) -> str | None:
        """In words what of a value training never saw (a new category, a number far out of its range); else None."""
        return None

    # --- drift -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def drift(
        self, name: str, old: Column, new: Column, known: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Drifted]:
        """Two-sample tests of a field called `name`; empty where there is too little to compare."""

    def schema_drift(self, name: str, old: Column, new: Column) -> list[str]:
        """In words what looks like another export and not another world: a unit that changed by a power of ten, a
        column that went missing, categories that training never saw."""
        return []

    # --- requests and the page ---------------------------------------------------------------------------------------

    @abstractmethod
    def schema(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON schema of such a value in a request; "x-control" names what the page shows (box, number, select,
        date, switch), "examples" holds one."""
