"""Personal data out of a text: each kind becomes a placeholder such as <email>.

Patterns find candidates, checks decide: Luhn's digit for cards, the ISO 7064 check and the country's length for
IBANs, the ipaddress module for addresses, and for phones what a number must look like to be one. Names and postal
addresses need a model and are not touched.
Measured precision and recall stand in tests/test_records_cleaning.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from stdnum import iban, luhn

KINDS = ("url", "email", "iban", "card", "ip", "phone")
"""In the order in which they are sought: an address inside a URL is the URL's, sixteen digits are a card before
they are a phone."""

URL = re.compile(
    r"(?:(?:https?|ftp)://|(?<![\w@.])www\.)[^\s<>\"'，。；）]+"
    r"|(?<![\w@./-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:com|org|net|edu|gov|co\.uk|de|fr|eu|ch|nl|pl|cn|ru|io)"
    r"(?:/[^\s<>\"'，。；）]*)?(?![\w@-])",
    re.IGNORECASE,
)
EMAIL = re.compile(
    r"(?<![^\W_])[^\W_](?:[\w.+%'-]{0,63}[^\W])?@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.)+[^\W\d_]{2,24}(?![^\W_])"
)
IBAN = re.compile(r"(?<![^\W_])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?![^\W_])", re.IGNORECASE)
CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w-])(?!\.\d)", re.ASCII)
IP = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)|(?<![\w:.])(?:[0-9a-f]{1,4}|:)(?::[0-9a-f]{0,4}){2,7}(?![\w:])",
    re.IGNORECASE | re.ASCII,
)
PHONE = re.compile(
    r"(?<![\w.#/@-])(?:\+|\(\+?)?\d(?:[ .\-/()\u00a0\u2010-\u2013]{0,3}\d){5,16}"
    r"(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w@]|[-./]\d)",
    re.ASCII | re.IGNORECASE,
)
# First digits of the card networks: American Express and Diners, Visa, Mastercard, Maestro, UnionPay, Discover, JCB.
CARD_START = re.compile(r"3[04-9]|4|5[0-8]|6|2[2-7]|2131|1800")
DATE = re.compile(r"(?:19|20)\d\d([-./ ])\d{1,2}\1\d{1,2}\b|\d{1,2}([-./ ])\d{1,2}\2(?:19|20)\d\d\b", re.ASCII)
SOCIAL_SECURITY = re.compile(r"\d{3}-\d{2}-\d{4}")
CALL_WORD = re.compile(
    r"\b(?:call|phone|tel|telephone|mobile|cell|fax|whats ?app|dial|reach|contact|ring|text me|answering|hotline"
    r"|rufnummer|telefon|handy|anrufen|llame|llamar|tel[eé]fono|m[oó]vil|appel|portable|num[eé]ro)|电话|手机|拨打|致电|號碼",
    re.IGNORECASE,
)
CALL_SUFFIX = re.compile(r"[\s,-]{1,3}(?:office|fax|mobile|phone|cell|home)\b", re.IGNORECASE)
CALL_REACH = 40  # characters before a bare run of digits in which a word such as `call` makes it a phone number


class Found(NamedTuple):
    """Personal data in a text: where it begins and ends (characters), and of which kind it is."""

    start: int
    end: int
    kind: str


def redact(text: str, kinds: Iterable[str]) -> str:
    """`text` with the given kinds of personal data replaced by <kind>.

    Raises KeyError for a kind that is not one of KINDS.
    """
    wanted = set(kinds)
    if unknown := wanted.difference(KINDS):
        raise KeyError(f"no such kind of personal data: {', '.join(sorted(unknown))}")
    parts, at = [], 0
    for found in find(text):
        if found.kind in wanted:
            parts += [text[at : found.start], f"<{found.kind}>"]
            at = found.end
    return "".join([*parts, text[at:]])


def find(text: str) -> list[Found]:
    """All personal data in `text`, from left to right, without overlaps."""
    if not (_DIGIT_OR_AT.search(text) or "." in text):
        return []
    taken: list[Found] = []
    for kind in KINDS:
        for start, end in _FINDERS[kind](text):
            if not any(start < other.end and other.start < end for other in taken):
                taken.append(Found(start, end, kind))
    return sorted(taken)


_DIGIT_OR_AT = re.compile(r"[0-9@]")


def _urls(text: str) -> Iterable[tuple[int, int]]:
    for match in URL.finditer(text):
        yield match.start(), match.start() + len(match.group().rstrip(".,;:!?)]}"))


def _emails(text: str) -> Iterable[tuple[int, int]]:
    return (match.span() for match in EMAIL.finditer(text))


def _ibans(text: str) -> Iterable[tuple[int, int]]:
    """The longest valid IBAN at each candidate; words that follow it are not part of it."""
    for match in IBAN.finditer(text):
        start = match.start()
        for end in range(match.end(), start + 14, -1):
            at_boundary = end == len(text) or not text[end].isalnum()
            if at_boundary and iban.is_valid(text[start:end], check_country=False):
                yield start, end
                break


def _cards(text: str) -> Iterable[tuple[int, int]]:
    for match in CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if CARD_START.match(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


def _ips(text: str) -> Iterable[tuple[int, int]]:
    for match in IP.finditer(text):
        candidate = match.group()
        if ":" in candidate and not re.search(r"\d", candidate):
            continue  # a::b, as programmers write, is a valid IPv6 address
        try:
            ipaddress.ip_address(candidate)
        except ValueError:
            continue
        yield match.span()


def _phones(text: str) -> Iterable[tuple[int, int]]:
    for match in PHONE.finditer(text):
        start, end = match.span()
        if text[start] == "(" and ")" not in match.group():
            start += 1
        said = CALL_WORD.search(text, max(0, start - CALL_REACH), start) or CALL_SUFFIX.match(text, end)
        if _is_phone(text[start:end], said=bool(said)):
            yield start, end


def _is_phone(candidate: str, said: bool) -> bool:
    """Whether digits are a phone number: 7 to 15 of them (ITU E.164) that are no date or social security number,
    and an international or trunk prefix, brackets or separators. `said`: a word such as `call` stands beside them,
    which is what a bare run of digits needs."""
    number = re.split(r"\s?(?:x|ext)", candidate, maxsplit=1, flags=re.IGNORECASE)[0]
    digits = re.sub(r"\D", "", number)
    if not 7 <= len(digits) <= 15 or DATE.match(number) or SOCIAL_SECURITY.fullmatch(number):
        return False
    if number.startswith(("+", "(", "00")) or number != candidate:
        return True
    groups = re.findall(r"\d+", number)
    if len(groups) == 1:
        return said or (digits[0] == "0" and 10 <= len(digits) <= 11)
    if said or max(map(len, groups)) > 8 or all(len(group) == 4 for group in groups):
        return said  # four by four is how cards and order numbers are written
    return len(groups) > 2 or digits[0] == "0"


_FINDERS: dict[str, Callable[[str], Iterable[tuple[int, int]]]] = {
    "url": _urls,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _ips,
    "phone": _phones,
}
