"""Plugin tables name their entries as "module:Name"; this is how an entry is fetched, when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(place: str) -> Any:
    """The object that a "module:Name" of a table stands for."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
