"""Tables of databases, through SQLAlchemy: read only, streamed, and no password is ever told.

A table is read in the order of its primary key; a query, and a table without a key, in whatever order the database
gives, which decides nothing but the numbers in the rows' origins.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from llmops.core.errors import DataError, MachineError
from llmops.core.protocols import Row
from llmops.records.config import SourceSection, as_source, is_database, shown
from llmops.records.reading import Reading
from llmops.records.textfiles import must_be_file

CHUNK = 10_000
"""Rows that are fetched at once."""
DIGEST_BYTES = 16
MOST_TABLES = 20
DRIVERS = {"postgresql": "pip install 'llmops-loop[postgresql]'"}
HOW = "write it as dialect+driver://user:${PASSWORD}@host/database; in a password @ is %40, / is %2F and % is %25"


def read_sql(source: SourceSection, root: Path) -> Reading:
    """The rows of a table or a query, each with its origin "table:number".

    Raises DataError for a database that can't be read and a table that is not there, MachineError when its driver is
    not installed.
    """
    database = Database(source, root)
    names = database.columns()
    return Reading(
        name=database.name,
        rows=database.rows(names),
        columns=list(dict.fromkeys(names)),
        duplicated=frozenset(name for name in names if names.count(name) > 1),
    )


def state_of(source: SourceSection, root: Path) -> str:
    """A digest of all that a source's rows hold, in whatever order they come; it reads every row. What is cheaper (the
    number of rows, the newest date) misses rows that were changed. Raises like `read_sql`."""
    database = Database(source, root)
    names = database.columns()
    total, rows = 0, 0
    for cells in database.cells():
        row = hashlib.blake2b(repr(cells).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
        total, rows = total + int.from_bytes(row, "big"), rows + 1
    whole = repr((names, rows, total % (1 << 8 * DIGEST_BYTES)))
    return hashlib.sha256(whole.encode()).hexdigest()


def states_of(sources: Sequence[str | SourceSection], root: Path) -> list[str]:
    """The digests of those sources that are databases, as files have theirs: part of a step's key."""
    return [state_of(as_source(source), root) for source in sources if is_database(source)]


class Database:
    """One table or query of a database. Methods raise DataError, without the password."""

    def __init__(self, source: SourceSection, root: Path) -> None:
        """Raises MachineError when SQLAlchemy or the driver is not installed."""
        try:
            import sqlalchemy
        except ImportError:
            what = "databases need SQLAlchemy, which is not installed."
            raise MachineError(what, shown(source), "pip install 'llmops-loop[train]'") from None
        self.sql = sqlalchemy
        self.where = shown(source)
        self.query = source.query
        self.url = self._readable(self._url(source.path), root)
        self.engine = self._engine()
        self.table = None if self.query else source.table or self._only_table()
        self.name = self.table or "query"

    def columns(self) -> list[str]:
        """Names of the columns, in their order."""
        with self._asked() as result:
            return [str(name) for name in result.keys()]  # noqa: SIM118 - a result is no dict

    def cells(self) -> Iterator[tuple[Any, ...]]:
        """The values of each row."""
        with self._asked() as result:
            yield from map(tuple, result)

    def rows(self, names: list[str]) -> Iterator[tuple[Row, str]]:
        """Each row with its origin."""
        for number, cells in enumerate(self.cells(), 1):
            yield dict(zip(names, cells, strict=True)), f"{self.name}:{number}"

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        """The running query. Nothing is ever committed."""
        with self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(
                stream_results=True, yield_per=CHUNK, no_parameters=True, **self._guards()
            )
            result = connection.exec_driver_sql(self.query) if self.query else connection.execute(self._select())
            with closing(result):
                yield result

    def _guards(self) -> dict[str, Any]:
        return {"postgresql_readonly": True} if self.engine.dialect.name == "postgresql" else {}

    def _select(self) -> Any:
        look, name, schema = self.sql.inspect(self.engine), str(self.table), None
        if not look.has_table(name) and "." in name:
            schema, name = name.rsplit(".", 1)
        if not look.has_table(name, schema=schema):
            raise self._no_table(name, look.get_table_names(schema=schema) + look.get_view_names(schema=schema))
        key = look.get_pk_constraint(name, schema=schema).get("constrained_columns") or []
        chosen = self.sql.select(self.sql.text("*")).select_from(self.sql.table(name, schema=schema))
        return chosen.order_by(*map(self.sql.column, key))

    def _only_table(self) -> str:
        with self._explained():
            look = self.sql.inspect(self.engine)
            names = look.get_table_names() + look.get_view_names()
        if len(names) == 1:
            return str(names[0])
        do = f"add `table:`; there are {', '.join(names[:MOST_TABLES])}" if names else "check the URL"
        raise DataError(f"the database has {len(names)} tables; llmops can't know which is meant.", self.where, do)

    def _no_table(self, name: str, names: list[str]) -> DataError:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean `{near[0]}`?  " if near else ""
        there = f"There are {', '.join(names[:MOST_TABLES])}" if names else "There is none at all"
        return DataError(f"the database has no table `{name}`.", self.where, hint + there)

    def _url(self, path: str) -> Any:
        """The URL in its parts; errors never repeat what it holds, for with a mistake in it anything may be the
        password."""
        try:
            if path.partition("?")[0].count("@") > 1:
                raise ValueError
            url = self.sql.make_url(path)
            url.get_dialect()
        except (self.sql.exc.NoSuchModuleError, ImportError):
            name = path.partition("://")[0]
            do = "write postgresql+psycopg://" if name == "postgres" else "see docs.sqlalchemy.org/dialects"
            raise DataError(f"SQLAlchemy knows no database `{name}`.", name + "://", do) from None
        except (self.sql.exc.ArgumentError, ValueError):
            raise DataError("a database's URL can't be read.", path.partition("://")[0] + "://", HOW) from None
        return url

    def _readable(self, url: Any, root: Path) -> Any:
        """The URL; of an SQLite file, relative to `root` and for reading only."""
        if url.get_backend_name() != "sqlite" or str(url.database).startswith("file:"):
            return url
        if url.database in (None, "", ":memory:"):
            raise DataError("a new database in memory holds no rows.", self.where, "name its file: sqlite:///loans.db")
        path = (root / Path(url.database).expanduser()).resolve()
        must_be_file(path, self.where)
        return url.set(database=path.as_uri(), query={**url.query, "mode": "ro", "uri": "true"})

    def _engine(self) -> Any:
        try:
            return self.sql.create_engine(self.url, poolclass=self.sql.NullPool, hide_parameters=True)
        except ImportError as error:
            what = f"{self.url.get_backend_name()} databases need the driver {error.name}, which is not installed."
            do = DRIVERS.get(self.url.get_backend_name(), f"pip install {error.name}, or name another driver")
            raise MachineError(what, self.where, do) from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the database or its driver says, in one line."""
        try:
            yield
        except self.sql.exc.SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines()
            reason = said[0] if said else type(error).__name__
            if self.url.password:
                reason = reason.replace(str(self.url.password), "***")
            do = "check the URL, the name and the rights of its user"
            raise DataError(f"{self._told()} can't be read: {reason}", self.where, do) from None

    def _told(self) -> str:
        return f"the table {self.table}" if getattr(self, "table", None) else "the database"
