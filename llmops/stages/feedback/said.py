"""What one row of an imported file says: an opinion about a logged request, or what was asked with its right answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmops.core.protocols import Row
from llmops.fields.hashing import normalise
from llmops.fields.redaction import KINDS, redact

NAMESPACE = uuid.UUID("6f7ac4a5-3f0e-5f3b-9d8c-0f6f5b2f7a11")
RATINGS = {"1": 1, "+1": 1, "1.0": 1, "up": 1, "true": 1, "-1": -1, "-1.0": -1, "0": -1, "down": -1, "false": -1}


@dataclass(frozen=True)
class Said:
    """One good row of a file. `request` is None when it speaks about a logged request, else what was asked, as the log
    keeps it; where the row holds an answer that is not the right one, with its `response`. `own` is the row's own id,
    by which the log may know it too."""

    origin: str
    id: str
    rating: int | None
    correction: str | None
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    own: str | None = None


Parse = Callable[[Row, str], Said | str | None]
"""(row, its origin) -> what it says, or in words why it says nothing; None for a row that says nothing yet."""


def made_id(text: str) -> str:
    """The id of a request that nobody sent. The log's text is redacted, so the id must not depend on whether it is."""
    return str(uuid.uuid5(NAMESPACE, normalise(redact(text, KINDS))))
