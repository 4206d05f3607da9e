"""The rows of the traffic log, and how they become fit for the disk: redacted, valid Unicode, JSON as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Redact = Callable[[str], str]


@dataclass(frozen=True)
class Request:
    """One answered request. `at` is seconds since 1970; `text` and `request` are not redacted yet."""

    id: str
    at: float
    version: int | None
    text: str | None
    request: Mapping[str, Any] | None
    response: Mapping[str, Any] | None
    label: str | None
    probability: float | None
    abstained: bool
    latency_ms: float | None
    source: str

    def columns(self, keep_text: bool, redact: Redact) -> tuple[Any, ...]:
        """The values of the table `requests`, in its order."""
        text = redact(self.text) if keep_text and self.text is not None else None
        request = _json(redacted(self.request, redact)) if keep_text and self.request is not None else None
        response = None if self.response is None else _json(self.response)
        return (
            self.id,
            self.at,
            self.version,
            _maybe(text),
            request,
            response,
            _maybe(self.label),
            self.probability,
            int(self.abstained),
            self.latency_ms,
            valid(self.source),
        )


@dataclass(frozen=True)
class Opinion:
    """What somebody said about an answer: a rating (+1, -1) and/or the right label."""

    request_id: str
    at: float
    rating: int | None
    correction: str | None
    by: str | None

    def columns(self, redact: Redact) -> tuple[Any, ...]:
        """The values of the table `feedback`, in its order. A correction is a label: it must stay as it was given."""
        by = None if self.by is None else redact(self.by)
        return self.request_id, self.at, self.rating, _maybe(self.correction), _maybe(by)


def valid(text: str) -> str:
    """`text` without lone surrogates, which JSON may bring and UTF-8 (so SQLite) cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def redacted(value: Any, redact: Redact) -> Any:
    """A JSON-able value with every text in it redacted; names of fields stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redacted(inner, redact) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(inner, redact) for inner in value]
    return value


def _maybe(text: str | None) -> str | None:
    return None if text is None else valid(text)


def _json(value: Any) -> str:
    return valid(json.dumps(value, ensure_ascii=False, default=str))
