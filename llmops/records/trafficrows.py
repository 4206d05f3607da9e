"""The rows of the traffic log, and how they become fit for the disk: redacted, valid Unicode, JSON as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Redact = Callable[[str], str]


@dataclass(frozen=True)
class Request:
    """One answered request. `at` is seconds since 1970; `request` is not redacted yet, nor is `response`
    when it is `prose`: it may repeat what people said."""

    id: str
    at: float
    version: int | None
    request: Mapping[str, Any] | None
    response: Mapping[str, Any] | None
    label: str | None
    probability: float | None
    abstained: bool
    latency_ms: float | None
    source: str
    prose: bool = False

    def columns(self, keep_text: bool, redact: Redact) -> tuple[Any, ...]:
        """The values of the table `requests`, in its order."""
        request = _json(redacted(self.request, redact)) if keep_text and self.request is not None else None
        response = None if self.response is None else _json(self._answer(keep_text, redact))
        return (
            self.id,
            self.at,
            self.version,
            request,
            response,
            _maybe(self.label),
            self.probability,
            int(self.abstained),
            self.latency_ms,
            valid(self.source),
        )

    def _answer(self, keep_text: bool, redact: Redact) -> Mapping[str, Any] | None:
        if not self.prose or self.response is None:
            return self.response
        kept = self.response if keep_text else {n: said for n, said in self.response.items() if not _repeats(n, said)}
        return {name: redacted(said, redact) for name, said in kept.items()}


@dataclass(frozen=True)
class Opinion:
    """What somebody said about an answer: a rating (+1, -1) and/or the right label; with `prose`, the right words."""

    request_id: str
    at: float
    rating: int | None
    correction: str | None
    by: str | None
    prose: bool = False

    def columns(self, keep_text: bool, redact: Redact) -> tuple[Any, ...]:
        """The values of the table `feedback`, in its order. A label must stay as it was given; prose is redacted, and
        not kept by a log that keeps no contents."""
        by = None if self.by is None else redact(self.by)
        correction = self.correction
        if self.prose and correction is not None:
            correction = redact(correction) if keep_text else None
        return self.request_id, self.at, self.rating, _maybe(correction), _maybe(by)


def _repeats(name: str, said: Any) -> bool:
    """Whether a part of a response may repeat what was asked: a model's words, or what lies beside its answer."""
    return name == "answer" or isinstance(said, Mapping | list | tuple)


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
