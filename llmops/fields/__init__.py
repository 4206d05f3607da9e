"""Kinds of fields: the table of names, and what makes a kind of a config's field. A new kind is one file and one row
here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops.fields.config import FieldSection
    from llmops.fields.kind import Kind

KINDS = {
    "category": "llmops.fields.category:Category",
    "date": "llmops.fields.date:Date",
    "flag": "llmops.fields.flag:Flag",
    "id": "llmops.fields.ident:Ident",
    "number": "llmops.fields.number:Number",
    "text": "llmops.fields.text:Text",
}
"""Name in the config -> "module:Class"."""


def kind_of(section: FieldSection) -> Kind:
    """The kind that a field's block asks for."""
    module, name = KINDS[section.kind].split(":")
    made: Kind = getattr(import_module(module), name)(section)
    return made


def kinds_of(fields: Mapping[str, FieldSection]) -> dict[str, Kind]:
    """The kinds of several fields, by name."""
    return {name: kind_of(section) for name, section in fields.items()}
