"""Whether a generator's wording says only what the entry, or the question, says: the check, and its two rules.

1. Facts. Every number, every name of a month or a weekday, every mail address and URL of the wording must stand in the
   entry or the question. 4.90 and 4,9 are one number, 1,000 and 1000 too, "two" is 2 (English and German words, 2 to 20
   and the tens); a date is the numbers in it.
2. Words. K-precision (Adlakha et al. 2023, "Evaluating Correctness and Faithfulness of Instruction-Following Models for
   Question Answering"): the share of the wording's words that stand in the knowledge it was given. Ours counts words of
   four letters or more, so that articles and auxiliary verbs don't decide, and takes words that begin alike for one, so
   that inflection doesn't either. The share must be large enough in the whole wording and in each of its sentences that
   has four such words, so that a strange sentence cannot hide behind a copied entry. Where a script puts no space
   between words, pairs of characters are words.

What it cannot see: a "not" that was dropped or added, facts whose parts were put together in another way, and a word
that happens to begin like one of the entry's.
"""

from __future__ import annotations

import calendar
import re

from pydantic import Field

from llmops.core.section import Section
from llmops.fields.redaction import find
from llmops.tasks.answering.lexical import WITHOUT_SPACES, words

LONG = 4
"""Letters of a word that counts."""
ENDING = 3
"""Letters by which the ends of two words that are one may differ."""
FEWEST = 4
"""Words that count in a sentence that is judged alone."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
GROUPED = re.compile(r"(?P<whole>[1-9]\d{0,2}(?P<mark>[.,])\d{3}(?:(?P=mark)\d{3})*)(?:[.,](?P<decimals>\d{1,2}))?")
PLAIN = re.compile(r"(?P<whole>\d+)(?:[.,](?P<decimals>\d+))?")
ADDRESSES = ("url", "email")
ENGLISH = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred"
)
GERMAN = (
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn"
    " neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig hundert"
)
VALUES = [*range(2, 21), *range(30, 101, 10)]
NUMERALS = {
    word.casefold(): str(value)
    for tongue in (ENGLISH, GERMAN)
    for word, value in zip(tongue.split(), VALUES, strict=True)
}
MONTHS = "januar februar märz april mai juni juli august september oktober november dezember"
WEEKDAYS = "montag dienstag mittwoch donnerstag freitag samstag sonntag"
NAMED = {name.casefold() for name in [*calendar.month_name, *calendar.day_name, *MONTHS.split(), *WEEKDAYS.split()]}
NAMED -= {"", "may", "march"}
"""Names of days and months, but those that are verbs as well."""


class Checked(Section):
    """A generator's wording, and what the check of its faithfulness found."""

    words: str
    """The wording."""
    precision: float = Field(ge=0, le=1)
    """Share of its words of four letters or more that stand in the entry or the question."""
    faithful: bool
    """Whether it passes."""
    why: str | None = None
    """Why it does not, in words."""


def check(wording: str, entry: str, question: str, least: float) -> Checked:
    """Hold a wording against the entry and the question; at least the share `least` of its longer words must be theirs.
    A wording without one says nothing that could be checked, and fails."""
    known = f"{entry}\n{question}"
    strange = sorted(facts(wording) - facts(known))
    share = precision(wording, known)
    why = None
    if strange:
        why = f"it says {', '.join(strange)}, and neither the entry nor the question does"
    elif share is None:
        why = "it has no word that could be checked"
    elif (weakest := min(share, *_shares(wording, known))) < least:
        part = "its" if weakest == share else "a sentence's"
        why = f"{weakest:.2f} of {part} words stand in the entry or the question, less than {least:.2f}"
    return Checked(words=wording, precision=round(share or 0.0, 6), faithful=why is None, why=why)


def precision(wording: str, known: str) -> float | None:
    """Share of the wording's longer words that stand in `known`; None when it has none."""
    counted = _counted(wording)
    stems = {word[:size] for word in words(known) for size in range(1, len(word) + 1)}
    return sum(_stem(word) in stems for word in counted) / len(counted) if counted else None


def _shares(wording: str, known: str) -> list[float]:
    """The same of each sentence that has enough words to be judged alone; 1 where none has."""
    long = [one for one in SENTENCE_END.split(wording) if len(_counted(one)) >= FEWEST]
    return [precision(one, known) or 0.0 for one in long] or [1.0]


def _counted(wording: str) -> list[str]:
    return [word for word in words(wording) if counts(word)]


def counts(word: str) -> bool:
    """Whether a word counts: by its length, or because its script puts no spaces; numbers are facts, not words."""
    return (len(word) >= LONG and not word.isdigit()) or bool(WITHOUT_SPACES.match(word))


def _stem(word: str) -> str:
    return word if WITHOUT_SPACES.match(word) else word[: max(LONG, len(word) - ENDING)]


def facts(text: str) -> set[str]:
    """Numbers, days, months, addresses of a text, each in one way of writing."""
    addresses = {
        text[found.start : found.end].casefold().rstrip(".,;:!?)") for found in find(text) if found.kind in ADDRESSES
    }
    spelt = words(text)
    named = {name for word in spelt for name in (word, word.removesuffix("s")) if name in NAMED}
    counted = {NUMERALS[word] for word in spelt if word in NUMERALS}
    return addresses | named | counted | {value for found in DIGITS.finditer(text) for value in numbers(found[0])}


def numbers(written: str) -> list[str]:
    """What digits with points and commas between them stand for: 1.000,50 is 1000.5, 24.12.2026 is three numbers."""
    found = GROUPED.fullmatch(written) or PLAIN.fullmatch(written)
    if found is None:
        return [_shortest(part, "") for part in re.split(r"[.,]", written)]
    return [_shortest(re.sub(r"[.,]", "", found["whole"]), found["decimals"] or "")]


def _shortest(whole: str, decimals: str) -> str:
    kept = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{kept}" if kept else "")
