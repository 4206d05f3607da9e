"""What a JSON schema must be to be held: of bounded size; and, where it is `strict`, as OpenAI asks for it.

The rules of `strict` are those of OpenAI's guide to structured outputs: the answer is an object, every object closes
itself to properties that it does not name, and each that it names is required (an optional one is `null` instead).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_CHARACTERS, MOST_DEPTH = 50_000, 64
"""Of one schema as JSON, and of objects and lists in each other: what is larger takes long to read or much memory."""
INSIDE = ("items", "not", "if", "then", "else", "contains", "additionalProperties", "propertyNames")
LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
MAPPINGS = ("properties", "$defs", "definitions", "patternProperties")


def check_size(schema: Mapping[str, Any]) -> str | None:
    """In words, why a schema is too large; None when it is not."""
    if _deeper(schema, MOST_DEPTH):
        return f"it has more than {MOST_DEPTH} objects and lists in each other"
    size = len(json.dumps(schema))
    return f"it has {size:,} characters, more than {MOST_CHARACTERS:,}" if size > MOST_CHARACTERS else None


def check_strict(schema: Mapping[str, Any]) -> str | None:
    """In words, with its place, what of a schema is not as `strict` asks for; None when all is."""
    if schema.get("type") != "object":
        return '`strict` needs "type": "object" at its top'
    found = ((place, _open(inner)) for place, inner in _schemas(schema, "#"))
    return next((f"{trouble} (at {place})" for place, trouble in found if trouble), None)


def _open(schema: Mapping[str, Any]) -> str | None:
    """What makes one object other than `strict` asks for."""
    named = schema.get("properties")
    kind = schema.get("type")
    if not isinstance(named, Mapping) and kind != "object" and not (isinstance(kind, list) and "object" in kind):
        return None
    if schema.get("additionalProperties") is not False:
        return '`strict` needs "additionalProperties": false'
    given = schema.get("required")
    missing = [name for name in named or () if not isinstance(given, list) or name not in given]
    return f"`strict` needs every property in `required`; {missing[0]!r} is not" if missing else None


def _schemas(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A schema and all within it, with their places as JSON pointers."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for name in INSIDE:
        yield from _schemas(schema.get(name), f"{place}/{name}")
    for name in LISTS:
        listed = schema.get(name)
        for number, inner in enumerate(listed if isinstance(listed, list) else ()):
            yield from _schemas(inner, f"{place}/{name}/{number}")
    for name in MAPPINGS:
        mapped = schema.get(name)
        for key, inner in mapped.items() if isinstance(mapped, Mapping) else ():
            yield from _schemas(inner, f"{place}/{name}/{key}")


def _deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists stand in each other more than `levels` deep."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(one, levels - 1) for one in inner)
