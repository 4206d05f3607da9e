"""Cleaning of one text. Training and serving both call `clean`, so the two can't drift apart. Imports nothing heavy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from llmops.fields.config import CleanStep
from llmops.fields.redaction import redact

SURROGATE = re.compile("[\ud800-\udfff]")
# Every control and invisible format character but those that change what a text says: the joiners of Indic and
# Persian scripts and of emoji (U+200C, U+200D).
INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff]")
SPACES = re.compile(r"\s+")


def clean(text: str, step: CleanStep) -> str:
    """`text` as the model sees it. Idempotent: cleaning a cleaned text changes nothing.

    Halves of surrogate pairs (JSON may carry them, UTF-8 can't) become U+FFFD whatever `step` says.
    """
    if SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if step.whitespace:
        text = INVISIBLE.sub("", text)
    text = _normal(text, step)
    if step.whitespace:
        text = SPACES.sub(" ", text).strip()
    return redact(text, step.redact) if step.redact else text


def _normal(text: str, step: CleanStep) -> str:
    """Normal form and case. Each may undo the other (a sign such as ㎆ holds capitals), so they take turns."""
    while True:
        new = text if step.unicode == "none" else unicodedata.normalize(step.unicode, text)
        new = new.lower() if step.lowercase else new
        if new == text:
            return text
        text = new


def cleaner(plain: Mapping[str, Any]) -> Callable[[str], str]:
    """`clean` with the settings that a data set or bundle carries (`CleanStep.plain()`)."""
    step = CleanStep(**plain)
    return lambda text: clean(text, step)
