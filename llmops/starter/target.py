"""Which column of an unknown table is to be predicted, as what, and which class is the event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops.fields import kind_of
from llmops.fields.config import FieldSection
from llmops.fields.flag import NO, YES
from llmops.fields.kind import BadCell
from llmops.starter.columns import Cells, Guess

CLASS_NAMES = frozenset(
    """target label y class outcome response default defaulted churn churned exited attrition fraud risk bad survived
    diagnosis disease died death converted conversion purchased subscribed cancelled canceled approved clicked fault
    failure claim ziel zielvariable klasse ausfall gekündigt kündigung abgewandert abwanderung betrug risiko ergebnis
    objetivo clase resultado impago moroso abandono baja fraude riesgo cible classe défaut defaut résilié resilie
    résiliation churné obiettivo esito insolvenza insolvente abbandono rischio alvo inadimplente inadimplência cancelou
    risco doel uitkomst wanbetaling opgezegd cel wynik odejście odszedł hedef sonuç temerrüt цель отток дефолт 目标 标签
    违约 流失 目的 解約 结果""".split()
)
NUMBER_NAMES = frozenset(
    """price sales revenue demand rent salary consumption mpg medv charges cost value yield preis miete kaltmiete umsatz
    absatz nachfrage verbrauch gehalt kosten wert precio ventas alquiler consumo prix ventes loyer consommation prezzo
    vendite affitto consumi preço preco vendas aluguel prijs omzet verkoop huur cena sprzedaż czynsz fiyat satış цена
    продажи 价格 房价 销量 価格 売上""".split()
)
EVENTS = frozenset(
    """default defaulted bad churned churn exited left lost fraud fraudulent sick ill disease malignant positive died
    dead failed failure fail cancelled canceled gekündigt krank schlecht ausfall impago moroso défaut resilié resilie
    insolvente inadimplente risk high event attrited""".split()
)
FEW, SOME = 10, 20
"""Different whole numbers up to which they are classes, and from which they are surely a number."""
MOST_CLASSES = 100


@dataclass(frozen=True)
class Target:
    """The column that is predicted: `counts` of its values as the data set will have them (classes) or of its cells;
    `decimal` and `others` (columns that it might be too), and a word where it is doubtful."""

    guess: Guess
    predict: str
    counts: Counter[str]
    positive: str | None = None
    comment: str = ""
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.guess.name


def find_target(guesses: Sequence[Guess], label: str | None = None) -> Target | None:
    """The likeliest target, or the column `label`; None where no column can be one."""
    if label is not None:
        told = next((guess for guess in guesses if guess.name == label), None)
        return None if told is None or len(told.cells.counts) < 2 else _target(told, ())
    scored = [(score(guess, place, len(guesses)), guess) for place, guess in enumerate(guesses)]
    likely = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: -pair[0])
    if not likely:
        return None
    best = likely[0][0]
    others = tuple(guess.name for points, guess in likely[1:4] if points > best - 1)
    return _target(likely[0][1], others)


def score(guess: Guess, place: int, columns: int) -> float:
    """How much a column looks like the target: by its name, by standing last or first, by having few values; 0 for
    what can't be one."""
    counts = guess.cells.counts
    if guess.kind in ("", "id", "date", "text") or len(counts) < 2:
        return 0.0
    if guess.kind == "category" and len(counts) > MOST_CLASSES:
        return 0.0
    lower, words = guess.name.casefold(), {*guess.cells.words()}
    named = 3.0 if lower in CLASS_NAMES | NUMBER_NAMES else 2.5 if words & CLASS_NAMES else 0.0
    named = named or (2.0 if words & NUMBER_NAMES else 0.0)
    stands = 1.5 if place == columns - 1 else 1.0 if place == 0 else 0.0
    two = 0.5 if len(counts) == 2 else 0.0
    return 0.1 + named + stands + two - (0.5 if guess.cells.filled < guess.cells.rows else 0.0)


def _target(guess: Guess, others: tuple[str, ...]) -> Target:
    cells = guess.cells
    if is_number(guess):
        whole = all(cell.lstrip("-").isdigit() for cell in cells.counts)
        few = len(cells.counts) <= 2 * SOME and whole
        return Target(guess, "number", cells.counts, None, "or classes? predict: class" if few else "", others)
    counts = _classes(cells)
    comment = "or does its size count? predict: number" if _whole(cells) and len(counts) > 2 else ""
    positive = positive_of(counts) if len(counts) == 2 else None
    return Target(guess, "class", counts, positive, comment, others)


def is_number(guess: Guess) -> bool:
    """Whether a target's values lie on a line, and are not a few classes that are written as numbers."""
    if guess.kind != "number":
        return False
    named = {*guess.cells.words()} & NUMBER_NAMES
    distinct = len(guess.cells.counts)
    if not _whole(guess.cells):
        return distinct > 2
    return distinct > (2 if named else FEW)


def _whole(cells: Cells) -> bool:
    return all(cell.lstrip("-").isdigit() for cell in cells.counts)


def _classes(cells: Cells) -> Counter[str]:
    """The classes as the task reads them."""
    kind = kind_of(FieldSection(kind="category"))
    found: Counter[str] = Counter()
    for cell, n in cells.counts.items():
        value: Any = None
        try:
            value = kind.read(cell)
        except BadCell:
            continue
        if value is not None:
            found[str(value)] += n
    return found


def positive_of(counts: Counter[str]) -> str:
    """Of two classes the event: yes against no, a word for an event, else the rarer one."""
    (common, _), (rare, _) = counts.most_common(2)
    for event, other in ((common, rare), (rare, common)):
        if event.casefold() in YES and other.casefold() in NO:
            return event
    named = [name for name in (rare, common) if name.casefold() in EVENTS]
    return named[0] if len(named) == 1 else rare
