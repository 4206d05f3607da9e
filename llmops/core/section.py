"""Section: the base of every block of the YAML. Frozen, no unknown keys, a docstring under each field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A block of the config. Fields are documented by the string under them; `explain` prints it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """The section as plain JSON-able values, defaults filled in."""
        return self.model_dump(mode="json")
