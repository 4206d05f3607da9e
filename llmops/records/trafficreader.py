"""Reads the traffic log: counts, requests, corrections. Opens it for reading only; the server may go on writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llmops.core.protocols import Judged
from llmops.records.trafficfile import WITH_TEXT, connect_reader, explained

ASKED_WITH_TEXT = "IIF(r.request IS NULL AND r.text IS NOT NULL, json_object('text', r.text), r.request)"
"""The request in a file of the format in which its text had a column."""
LATEST = """
    SELECT request_id, MAX(rowid) AS newest FROM feedback WHERE {column} IS NOT NULL GROUP BY request_id
"""


@dataclass(frozen=True)
class Logged:
    """One request of the log, and its response, as they went over the wire; the request is None when the log keeps no
    contents."""

    id: str
    at: float
    version: int | None
    request: dict[str, Any] | None
    label: str | None
    probability: float | None
    abstained: bool
    latency_ms: float | None
    source: str
    response: dict[str, Any] | None = None


@dataclass(frozen=True)
class Volume:
    """Requests of one day (UTC, `2026-11-22`), and how many of them the model abstained on."""

    day: str
    requests: int
    abstained: int


class TrafficReader:
    """The log open for reading. Use as a context manager. Methods raise DataError when the file is damaged."""

    def __init__(self, path: Path) -> None:
        """Raises DataError when the file is missing, damaged, foreign or newer."""
        self.path = path
        self._connection = connect_reader(path)

    def requests(
        self, version: int | None = None, since: float = 0.0, before: float | None = None, newest: int | None = None
    ) -> list[Logged]:
        """Requests that were served, from `since` until `before` (seconds since 1970), in the order of time; of one
        version when given; only the `newest` so many when given."""
        rows = self._query(
            f"SELECT id, at, version, {self._asked}, label, probability, abstained, latency_ms, source, response"
            " FROM requests r WHERE source = 'http' AND at >= ? AND (? IS NULL OR at < ?)"
            " AND (? IS NULL OR version = ?) ORDER BY at DESC, rowid DESC LIMIT ?",
            since,
            before,
            before,
            version,
            version,
            -1 if newest is None else newest,
        )
        return [
            Logged(
                key, at, number, _object(request), label, sure, bool(abstained), took_ms, source, _object(response)
            )
            for key, at, number, request, label, sure, abstained, took_ms, source, response in reversed(list(rows))
        ]  # fmt: skip

    def judged(self, version: int | None = None, since: float = 0.0) -> list[Judged]:
        """Requests that somebody rated or corrected, in the order of the latest word."""
        rows = self._query(
            "SELECT r.id, r.at, r.version, r.label, r.abstained, r.source, f.rating, c.correction,"
            f" MAX(COALESCE(f.at, 0), COALESCE(c.at, 0)) AS said_at, {self._asked}, r.response"
            f" FROM requests r LEFT JOIN ({LATEST.format(column='rating')}) lf ON lf.request_id = r.id"
            " LEFT JOIN feedback f ON f.rowid = lf.newest"
            f" LEFT JOIN ({LATEST.format(column='correction')}) lc ON lc.request_id = r.id"
            " LEFT JOIN feedback c ON c.rowid = lc.newest"
            " WHERE (f.rating IS NOT NULL OR c.correction IS NOT NULL) AND r.at >= ?"
            " AND (? IS NULL OR r.version = ?) ORDER BY said_at, r.rowid",
            since,
            version,
            version,
        )
        return [
            Judged(
                key, at, number, label, bool(abstained), source, rating, correction, said_at, _object(request),
                _object(response),
            )
            for key, at, number, label, abstained, source, rating, correction, said_at, request, response in rows
        ]  # fmt: skip

    def own_ids(self, field: str) -> list[tuple[str, Any]]:
        """(a request's id, the value of its field `field`) of all requests that have one, oldest first."""
        return list(
            self._query(
                f"SELECT r.id, e.value FROM requests r, json_each({self._asked}) e"
                " WHERE r.request IS NOT NULL AND json_valid(r.request) AND e.key = ? ORDER BY r.at, r.rowid",
                field,
            )
        )

    def volumes(self, version: int | None = None, since: float = 0.0) -> list[Volume]:
        """Requests a day, oldest first."""
        rows = self._query(
            "SELECT date(at, 'unixepoch'), COUNT(*), SUM(abstained) FROM requests WHERE source = 'http' AND at >= ?"
            " AND (? IS NULL OR version = ?) GROUP BY 1 ORDER BY 1",
            since,
            version,
            version,
        )
        return [Volume(*row) for row in rows]

    def state(self) -> dict[str, int]:
        """Figures that change whenever the log does; read from the ends of the tables, so cheap at any size."""
        found: dict[str, int] = {}
        for table in ("requests", "feedback"):
            # Two queries: SQLite reads one end of the table for MIN or MAX alone, the whole table for both together.
            for end in ("MIN", "MAX"):
                [(value,)] = self._query(f"SELECT {end}(rowid) FROM {table}")
                found[f"{table}_{end.lower()}"] = value or 0
        return found

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _asked(self) -> str:
        """The SQL of a request; a writer may carry the file over while we read."""
        [(found,)] = self._query("PRAGMA user_version")
        return ASKED_WITH_TEXT if found == WITH_TEXT else "r.request"

    def _query(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        with explained(self.path):
            yield from self._connection.execute(sql, values)


def _object(plain: str | None) -> dict[str, Any] | None:
    """The JSON object in a column; None when the log keeps none, or a foreign import wrote something else."""
    try:
        value = None if plain is None else json.loads(plain)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
