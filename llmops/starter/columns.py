"""What kind of value each column of an unknown table holds: judged by the cells, its name, and what the kinds can read.

Nothing here is certain; what is doubtful gets a comment for the user to judge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from llmops.core.protocols import Row
from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.kind import BadCell
from llmops.fields.words import ABSENT, as_text
from llmops.records.profile import ASIAN

READABLE = 0.95
"""Share of the cells that a kind must be able to read for a column to be of it."""
STRAY_WORDS = 3
"""Different words that a column of numbers or dates may hold beside them: they mean that a value is missing."""
UNIQUE = 0.98
MANY = 100
"""Different values from which a category deserves a word, and phrases are a text."""
FEWEST = 30
"""Cells below which nothing is said about a column whose cells all differ."""
ID_NAMES = "id ids uuid guid key nr no number num index idx rownames nummer código codigo clave 编号 номер".split()
INDEX_NAMES = ("", "x", "x1", "index", "idx", "rownames", "row_names", "level_0")
CODE_NAMES = "zip zipcode postcode postal plz cp cap code kode code_postal postleitzahl sic naics".split()
DATES = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y",
    "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
    "%d-%b-%Y", "%d-%b-%y", "%Y%m%d", "%Y年%m月%d日",
)  # fmt: skip
SWAPPED = {"%d": "%m", "%m": "%d"}
ISO = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
DIGITS = re.compile(r"\d{8}")
LEADING_ZERO = re.compile(r"0\d+")
UNKNOWN = frozenset(
    """unknown missing unspecified n.a. n/d nd n.d. k.a. unbekannt fehlt desconocido s/d inconnu n.c. sconosciuto
    desconhecido onbekend nieznane bilinmiyor неизвестно 未知 不明""".split()
) | {"not available", "keine angabe", "ohne angabe", "sin dato", "sin datos", "non renseigné", "não informado",
    "niet bekend", "brak danych", "нет данных"}  # fmt: skip
"""Words for a missing value, beside those that every kind knows; for flags, where any third word may be a category."""
CODES = re.compile(r"-9{2,}|9{4,}")
"""Numbers that people write for a value that they lack."""


@dataclass(frozen=True)
class Cells:
    """One column as text: how often each filled cell stands there, in how many rows; `order` holds the first cells as
    they stand. `nested` says that some cells are lists or objects."""

    name: str
    rows: int
    counts: Counter[str]
    order: Sequence[str] = ()
    nested: bool = False

    @property
    def filled(self) -> int:
        return self.counts.total()

    def share(self, held: Iterable[str]) -> float:
        """Share of the filled cells that are among `held`."""
        return sum(self.counts[cell] for cell in held) / max(1, self.filled)

    def words(self) -> list[str]:
        """The words of the column's name."""
        split = re.sub(r"([a-z])([A-Z])", r"\1 \2", self.name).casefold()
        return [word for word in re.split(r"[\W_]+", split) if word]


@dataclass(frozen=True)
class Guess:
    """What a column seems to be: the settings of its field (none: it is left out), and a word for the user."""

    cells: Cells
    settings: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""

    @property
    def name(self) -> str:
        return self.cells.name

    @property
    def kind(self) -> str:
        return str(self.settings.get("kind", ""))

    @property
    def section(self) -> FieldSection:
        return FieldSection.model_validate(self.settings)

    def but(self, comment: str, **settings: Any) -> Guess:
        """The guess with other settings, and a word about them."""
        told = "; ".join(filter(None, [self.comment, comment]))
        return replace(self, settings={**self.settings, **settings}, comment=told)


def cells_of(rows: Sequence[Row]) -> list[Cells]:
    """The columns of rows, in the order in which they turn up."""
    found = []
    for name in dict.fromkeys(name for row in rows for name in row):
        texts, nested = [], False
        for row in rows:
            try:
                texts.append("" if row.get(name) is None else as_text(row[name]).strip())
            except BadCell:
                nested = True
        filled = [text for text in texts if text.casefold() not in ABSENT]
        found.append(Cells(str(name), len(rows), Counter(filled), filled[:200], nested))
    return found


def guesses(columns: Sequence[Cells], semicolons: bool) -> list[Guess]:
    """What each column seems to be. Whether `1.234` is a little or a thousand, the file's other columns tell, and else
    whether its cells are set apart by semicolons."""
    comma = any(_only_with_comma(cells) for cells in columns)
    point = any(_only_with_point(cells) for cells in columns)
    return [guess(cells, "," if comma or (semicolons and not point) else ".") for cells in columns]


def guess(cells: Cells, decimal: str = ".") -> Guess:
    """What one column seems to be; `decimal` settles numbers that may be read both ways."""
    if not cells.name:
        return Guess(cells, comment="it has no name")
    if not cells.filled:
        return Guess(cells, comment="it holds lists or objects" if cells.nested else "every cell is empty")
    if len(cells.counts) == 1 and cells.filled == cells.rows:
        return Guess(cells, comment=f"every cell is {next(iter(cells.counts))[:30]}")
    found = _flag(cells) or _date(cells) or _number(cells, decimal) or _words(cells)
    return _as_id(found) or found


def _flag(cells: Cells) -> Guess | None:
    if len({cell.casefold() for cell in cells.counts}) > 6:
        return None
    found = _readable(cells, {"kind": "flag"})
    if found is None or len(set(_values(cells, found, cells.counts)) - {None}) < 2:
        return None
    short = all(len(cell) == 1 and not cell.isdigit() for cell in cells.counts)
    return found.but("yes or no? else: category") if short else found


def _date(cells: Cells) -> Guess | None:
    if all(ISO.fullmatch(cell) for cell in cells.order) and (found := _readable(cells, {"kind": "date"})):
        return found
    for pattern in DATES:
        told = {"kind": "date", "dates": pattern}
        first = cells.order[0]
        if pattern == "%Y%m%d" and not all(DIGITS.fullmatch(cell) for cell in cells.order):
            continue
        if not _reads(told, first) and not _reads(told, cells.order[-1]):
            continue
        if found := _readable(cells, told):
            other = re.sub("%[dm]", lambda sign: SWAPPED[sign[0]], pattern)
            both = other != pattern and other in DATES and _readable(cells, {"kind": "date", "dates": other})
            return found.but(f"or is the month first? {other}") if both and other != pattern else found
    return None


def _number(cells: Cells, decimal: str) -> Guess | None:
    first = _readable(cells, {"kind": "number", **({"decimal": ","} if decimal == "," else {})})
    other = _readable(cells, {"kind": "number", **({"decimal": ","} if decimal == "." else {})})
    found = first or other
    if found is None:
        return None
    if cells.share(cell for cell in cells.counts if LEADING_ZERO.fullmatch(cell)) > 0.02 or (
        set(cells.words()) & set(CODE_NAMES)
    ):
        return Guess(cells, {"kind": "category"}, "digits, but a code")
    codes = [
        cell for cell, n in cells.counts.items() if CODES.fullmatch(cell) and n >= 2 and _stands_apart(cells, cell)
    ]
    if codes:
        held = list(found.settings.get("missing", []))
        found = found.but(f"{', '.join(codes)}: taken for missing", missing=[*held, *codes])
    if first and other and _values(cells, first) != _values(cells, other):
        found = found.but("decimals or thousands? see `decimal`")
    return found


def _words(cells: Cells) -> Guess:
    """Text where most cells are phrases, of many kinds; else a category."""
    phrases = cells.share(cell for cell in cells.counts if is_phrase(cell))
    varied = len(cells.counts) / cells.filled
    if phrases >= 0.5 and (varied > 0.2 or len(cells.counts) > MANY or _length(cells) > 60):
        return Guess(cells, {"kind": "text"}, "or a category?" if _length(cells) < 25 else "")
    many = "many values" if len(cells.counts) > MANY else ""
    return Guess(cells, {"kind": "category"}, many)


def _as_id(found: Guess) -> Guess | None:
    """The same as an id, where a column tells rows apart."""
    cells = found.cells
    if found.kind in ("date", "flag", "text") or cells.filled < FEWEST:
        return None
    named = bool({*cells.words()} & {*ID_NAMES}) or cells.name.casefold().endswith("id") or cells.name.endswith("Nr")
    if _counts_up(cells) and (named or cells.name.casefold() in INDEX_NAMES or cells.name.startswith("Unnamed")):
        return Guess(cells, {"kind": "id"}, "counts the rows")
    varied = len(cells.counts) / cells.filled
    whole = found.kind == "category" or all(cell.lstrip("-").isdigit() for cell in cells.counts)
    if whole and varied >= UNIQUE and (named or found.kind == "category"):
        return Guess(cells, {"kind": "id"}, "tells rows apart")
    if whole and named and varied > 0.2 and cells.words()[-1:] != ["number"]:
        return Guess(cells, {"kind": "id"}, "several rows may share it")
    return None


def _counts_up(cells: Cells) -> bool:
    if not all(cell.isdigit() for cell in cells.order):
        return False
    numbers = [int(cell) for cell in cells.order]
    return len(numbers) >= FEWEST and all(b - a == 1 for a, b in pairwise(numbers))


def _reads(settings: Mapping[str, Any], cell: str) -> bool:
    try:
        return kind_of(FieldSection.model_validate(settings)).read(cell) is not None
    except BadCell:
        return False


def _readable(cells: Cells, settings: dict[str, Any]) -> Guess | None:
    """The column as such a kind, when it can read (nearly) all cells; a few words between them are named as missing."""
    kind = kind_of(FieldSection.model_validate(settings))
    strange = []
    for cell in cells.counts:
        try:
            kind.read(cell)
        except BadCell:
            strange.append(cell)
        if len(strange) > max(100, len(cells.counts) * (1 - READABLE) + 1):
            return None
    if not strange:
        return Guess(cells, settings)
    share = cells.share(strange)
    folded = {cell.casefold() for cell in strange}
    words = len(folded) <= STRAY_WORDS and not any(ch.isdigit() for cell in strange for ch in cell)
    few = folded <= UNKNOWN if settings["kind"] == "flag" else len(cells.counts) > 5 * len(folded)
    if words and few and share < 0.5:
        return Guess(cells, {**settings, "missing": sorted(folded)}, f"{', '.join(strange)}: taken for missing")
    if share <= 1 - READABLE and settings["kind"] != "flag":
        return Guess(cells, settings, f"{share:.1%} of the cells are none, such as `{strange[0][:20]}`")
    return None


def _values(cells: Cells, found: Guess, of: Iterable[str] | None = None) -> list[Any]:
    """Some cells as their kind reads them, None for those that it can't."""
    return [value_of(found, cell) for cell in (cells.order if of is None else of)]


def _only_with_comma(cells: Cells) -> bool:
    return _one_way(cells, ",", ".")


def _only_with_point(cells: Cells) -> bool:
    return _one_way(cells, ".", ",")


def _one_way(cells: Cells, this: str, that: str) -> bool:
    """Whether a column is one of numbers with one sign before the decimals and with the other one not."""
    if not any(this in cell for cell in cells.order):
        return False
    mine, other = (_readable(cells, {"kind": "number", "decimal": sign}) for sign in (this, that))
    return mine is not None and other is None


def _stands_apart(cells: Cells, code: str) -> bool:
    """Whether a number lies far from all others."""
    others = [float(cell) for cell in cells.counts if cell != code and re.fullmatch(r"-?\d+(\.\d+)?", cell)]
    value = float(code)
    if len(others) < 5:
        return False
    low, high = min(others), max(others)
    return not low - (high - low) / 4 <= value <= high + (high - low) / 4 and (value > 0 or low >= 0)


def is_phrase(cell: str) -> bool:
    """Whether a cell is words in a row."""
    return len(cell.split()) >= 3 or (len(cell) > 8 and bool(ASIAN.search(cell)))


def _length(cells: Cells) -> float:
    """Mean characters of a filled cell."""
    return sum(len(cell) * n for cell, n in cells.counts.items()) / max(1, cells.filled)


def value_of(found: Guess, cell: Any) -> Any:
    """A cell as the guessed kind reads it; None where it can't."""
    try:
        return kind_of(found.section).read(cell)
    except BadCell:
        return None
