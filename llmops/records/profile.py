"""What a table that nobody described holds: which column is the text, which the label, in which language."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmops.core.protocols import Row

TEXT_NAMES = (
    "text utterance message question query review comment body content description sentence feedback request chat mail "
    "nachricht anfrage frage kommentar bewertung beschreibung mensaje texto pregunta comentario descripcion opinion "
    "mensagem pergunta commentaire avis texte messaggio testo bericht vraag 内容 评论 文本 问题 消息 本文 質問"
).split()
LABEL_NAMES = (
    "label intent category class target topic sentiment tag queue department route reason type emotion kategorie "
    "klasse thema etiqueta categoria categoría clase tema intencion intención étiquette catégorie classe etichetta "
    "categorie 标签 类别 分类 意图 情感 カテゴリ ラベル"
).split()
OTHER_NAMES = (
    "id uuid key nr number index row date time created updated timestamp datum fecha price amount preis precio cost "
    "qty quantity user customer email phone url link source channel lang language locale country split fold answer "
    "response reply antwort respuesta name agent status priority rating score"
).split()
DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2})?")
NUMBER = re.compile(r"[-+]?[$€£¥]?\s?\d[\d.,' ]*\s?(?:[$€£¥%]|EUR|USD|GBP)?", re.IGNORECASE)
WHOLE = re.compile(r"-?\d{1,4}(?:\.0)?")
ASIAN = re.compile(r"[\u0e00-\u0eff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
LETTER = re.compile(r"[^\W\d_]")
LATIN = re.compile(r"[a-zA-Z\u00c0-\u024f]")
COMMON_WORDS = {
    "english": "the is my i to a it of and in for on this was have not with you that can how what do did an your",
    "german": "der die das ich ist nicht und ein eine zu mir mein wie für auf wir sie es bitte habe kann den mit von",
    "spanish": "el la los de que en mi no un una para por es con se lo cómo como me qué está del he las al quiero",
    "french": "le la les de je ne pas est un une et pour mon ma que vous sur dans il en avec ce à au du des mes",
    "italian": "il la di che non un una per mi è sono con mio ho come si del le i gli da in al della",
    "portuguese": "o a de que não um uma para meu minha é com em do da os as no na por como está eu foi",
    "dutch": "de het een ik is niet mijn van en dat op te voor met hoe kan er zijn wat in aan heb je naar",
}
LABEL_MARGIN = 2.0
TEXT_MARGIN = 1.5
"""How much below the best score a column may lie to be named as an alternative."""


@dataclass
class Column:
    """One column's values as text, empty ones left out; `rows` counts empty ones too."""

    name: str
    values: list[str]
    rows: int

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.values)

    @cached_property
    def length(self) -> float:
        """Mean characters of a value."""
        return sum(map(len, self.values)) / max(1, len(self.values))

    def share(self, test: Callable[[str], Any]) -> float:
        """Share of the values for which `test` holds."""
        return sum(bool(test(value)) for value in self.values) / max(1, len(self.values))

    def named(self, names: list[str]) -> bool:
        """Whether the column's name, or a word of it, is one of `names`."""
        lower = self.name.casefold()
        return lower in names or any(word in names for word in re.split(r"[\W_]+", lower))


def columns_of(rows: list[Row]) -> list[Column]:
    """The columns of rows, in the order in which they turn up. Lists and dicts are no values of a label or a text."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = []
    for name in names:
        cells = [row.get(name) for row in rows]
        values = [str(cell).strip() for cell in cells if cell is not None and not isinstance(cell, list | dict)]
        found.append(Column(name, [value for value in values if value], len(rows)))
    return found


def label_columns(columns: list[Column]) -> list[Column]:
    """Columns that may hold the label, likeliest first, those far behind left out: few values that repeat."""
    return _ranked([(label_score(column), column) for column in columns], LABEL_MARGIN)


def text_columns(columns: list[Column], *labels: str) -> list[Column]:
    """Columns that may hold the text, likeliest first, those far behind left out: long and varied, no `labels`."""
    return _ranked([(text_score(column), column) for column in columns if column.name not in labels], TEXT_MARGIN)


def _ranked(scored: list[tuple[float, Column]], margin: float) -> list[Column]:
    best = max((score for score, _ in scored), default=0.0)
    likely = [pair for pair in scored if pair[0] > -math.inf and pair[0] >= best - margin]
    return [column for _, column in sorted(likely, key=lambda pair: -pair[0])]


def label_score(column: Column) -> float:
    """How much a column looks like labels; minus infinity when it can't be: one value, hardly any repeated, dates."""
    distinct, filled = len(column.counts), len(column.values)
    if distinct < 2 or distinct > max(2, filled / 2) or column.length > 60 or column.share(DATE.fullmatch) > 0.5:
        return -math.inf
    numeric = column.share(NUMBER.fullmatch) > 0.9
    if numeric and (distinct > 50 or column.share(WHOLE.fullmatch) < 0.9):
        return -math.inf  # prices and measures
    once = sum(1 for n in column.counts.values() if n == 1) / distinct
    score = filled / column.rows - once - 0.5 * numeric - (distinct > 200)
    return score + 5 * column.named(LABEL_NAMES) - 3 * column.named(OTHER_NAMES)


def text_score(column: Column) -> float:
    """How much a column looks like text: the logarithm of its length, times how varied it is, and its name."""
    if not column.values or column.share(NUMBER.fullmatch) > 0.5 or column.share(DATE.fullmatch) > 0.5:
        return -math.inf
    prose = column.share(lambda value: " " in value or ASIAN.search(value))
    varied = len(column.counts) / len(column.values)
    score = math.log(1 + column.length) * math.sqrt(varied) * (0.3 + 0.7 * prose) * len(column.values) / column.rows
    return score + 3 * column.named(TEXT_NAMES) - 2 * column.named(OTHER_NAMES)


def language(texts: list[str]) -> str:
    """ "asian" (scripts without spaces between words, and Korean), "other" (neither these nor Latin letters), or the
    likeliest of a few languages by their commonest words; "english" when nothing tells and letters are plain."""
    letters = LETTER.findall(" ".join(texts))
    if not letters:
        return "english"
    if sum(bool(ASIAN.match(letter)) for letter in letters) > 0.2 * len(letters):
        return "asian"
    if sum(bool(LATIN.match(letter)) for letter in letters) < 0.7 * len(letters):
        return "other"
    words = Counter(re.findall(r"[^\W\d_]+", " ".join(texts).lower()))
    hits = {name: sum(words[word] for word in common.split()) for name, common in COMMON_WORDS.items()}
    best = max(hits, key=lambda name: hits[name])
    if hits[best] >= 0.05 * sum(words.values()):
        return best
    return "english" if sum(letter.isascii() for letter in letters) > 0.99 * len(letters) else "latin"
