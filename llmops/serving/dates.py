"""Dates and times of a schema as patterns that allow no impossible ones.

The library's own know how long months are, but no leap years; they allow the year 0000, and second 60 at any minute.
Readers of dates refuse these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.serving.strictschema import INSIDE, LISTS, MAPPINGS

LEAP = "(?:0[48]|[2468][048]|[13579][26])"
YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
DATE = f"(?:{YEAR}-{DAY}|(?:[0-9]{{2}}{LEAP}|{LEAP}00)-02-29)"
CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
TIME = rf"{CLOCK}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{CLOCK})"
PATTERNS = {"date": f"^{DATE}$", "time": f"^{TIME}$", "date-time": f"^{DATE}T{TIME}$"}
"""JSON schema's formats (RFC 3339) -> the texts that are meant."""


def with_patterns(schema: Any) -> Any:
    """A schema in which these formats are patterns; one that has a pattern already keeps both."""
    if not isinstance(schema, Mapping):
        return schema
    told = dict(schema)
    for name in INSIDE:
        if name in told:
            told[name] = with_patterns(told[name])
    for name in LISTS:
        if isinstance(told.get(name), list):
            told[name] = [with_patterns(one) for one in told[name]]
    for name in MAPPINGS:
        if isinstance(told.get(name), Mapping):
            told[name] = {key: with_patterns(one) for key, one in told[name].items()}
    form = told.get("format")
    if isinstance(form, str) and form in PATTERNS and "pattern" not in told:
        told = {name: value for name, value in told.items() if name != "format"} | {"pattern": PATTERNS[form]}
    return told
