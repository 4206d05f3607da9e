"""Schema drift: requests that look like another export of the data, not like another world.

A column that went missing or came in another unit is a mistake of whoever sends the requests. Learning from such rows
would teach the mistake, so it is no reason to retrain but one to wait, until the sender is mended. A value that was
never seen (a new product, a new branch) may be the world's own: it is named as loudly, and learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmops.fields.kind import Column, Kind

GONE = 0.95
"""Share of missing values from which a column is gone."""


@dataclass(frozen=True)
class SchemaDrift:
    """What was found of a field, in words; `broken`: the sender is to be mended."""

    field: str
    told: str
    broken: bool


def schema_drift(name: str, kind: Kind, old: Column, new: Column) -> list[SchemaDrift]:
    """What a field's kind says of its columns. New values are all that a column of words can show while it is there."""
    broken = kind.numeric or sum(value is None for value in new) > GONE * len(new)
    return [SchemaDrift(name, told, broken) for told in kind.schema_drift(name, old, new)]
