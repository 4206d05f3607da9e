"""The SQLite file under the traffic log: its schema, its format number, and errors that a person can act on.

Format 1 had a column `text` beside the request. A writer carries such a file over, in one transaction; a reader leaves
it alone and reads it as it is, so that a server of before may go on writing until it is started anew.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops.core.errors import DataError

FORMAT = 2
WITH_TEXT = 1
"""The format in which a request's text had a column of its own."""
BUSY_S = 10.0
"""How long a connection waits for another process's transaction."""

SCHEMA = (
    """CREATE TABLE requests(
        id TEXT PRIMARY KEY, at REAL NOT NULL, version INTEGER, request JSON, response JSON, label TEXT,
        probability REAL, abstained INTEGER NOT NULL DEFAULT 0, latency_ms REAL,
        source TEXT NOT NULL DEFAULT 'http')""",
    "CREATE INDEX requests_at ON requests(at)",
    "CREATE INDEX requests_version ON requests(version, at)",
    "CREATE TABLE feedback(request_id TEXT NOT NULL, at REAL NOT NULL, rating INTEGER, correction TEXT, by TEXT)",
    "CREATE INDEX feedback_request ON feedback(request_id)",
    f"PRAGMA user_version = {FORMAT}",
)
CARRIED_OVER = (
    "UPDATE requests SET request = json_object('text', text) WHERE request IS NULL AND text IS NOT NULL",
    "ALTER TABLE requests DROP COLUMN text",
    f"PRAGMA user_version = {FORMAT}",
)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of SQLite as a DataError that says what to do; they have one shape wherever they show."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "malformed" in str(error) or "not a database" in str(error):
            raise _corrupt(path, error) from error
        raise DataError(
            f"the traffic log cannot be used: {error}",
            str(path),
            "see that the disk has room, that you may write there, and that no other program holds the file",
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> DataError:
    return DataError(
        f"the traffic log is damaged: {error}",
        str(path),
        f"move it aside (mv {path} {path}.damaged) and a new one is begun; "
        f"`sqlite3 {path}.damaged .recover` may save its rows",
    )


def connect(path: Path) -> sqlite3.Connection:
    """Open the log for writing, made when it is not there. Raises DataError for a damaged, foreign or newer file."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(connection)
            # NORMAL: a commit reaches the kernel, which no kill takes back; fsync comes with checkpoints.
            connection.execute("PRAGMA synchronous = NORMAL")
            # Rows that retention removes are overwritten, not just unlinked: they are people's words.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            found = _format(connection, path)
            for statement in {None: SCHEMA, WITH_TEXT: CARRIED_OVER}.get(found, ()):
                connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open an existing log for reading only. Raises DataError when it is missing, damaged, foreign or newer."""
    if not path.is_file():
        raise DataError("there is no traffic log", str(path), "it begins with the first request to `llmops serve`")
    with explained(path):
        # mode=rw, because a reader of a WAL file must be able to make its shared memory; query_only guards the rows.
        uri = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA query_only = ON")
            if _format(connection, path) is None:
                raise DataError("the traffic log is empty: it has no tables", str(path), f"remove it: rm {path}")
        except BaseException:
            connection.close()
            raise
        return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. SQLite skips the busy handler here, so two first openers must take turns."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _format(connection: sqlite3.Connection, path: Path) -> int | None:
    """The format of the log in the file; None for a fresh file. DataError for a newer format, and for no log."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found in (WITH_TEXT, FORMAT):
        return found
    if found > FORMAT:
        raise DataError(
            f"the traffic log has format {found}; this llmops reads up to {FORMAT}",
            str(path),
            "upgrade llmops",
        )
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if tables:
        raise DataError(
            f"this SQLite file is not a traffic log: it has the tables {', '.join(sorted(tables))}",
            str(path),
            "move it away; the traffic log of a project has its own file",
        )
    return None
