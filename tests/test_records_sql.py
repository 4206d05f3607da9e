"""Tables of databases: SQLite always, a real PostgreSQL where its server is installed; and tables that join."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmops.core.errors import DataError, LlmopsError, MachineError
from llmops.core.protocols import Job
from llmops.project import open_project
from llmops.records.config import SourceSection, shown
from llmops.records.examples import Examples, load_examples
from llmops.records.readers import read, source_path
from llmops.records.sqlreader import state_of, states_of
from llmops.stages.prepare.stage import PrepareStage
from llmops.tasks import find
from tests.rooms import FakeRoom

ROWS = 120
SECRET = "s3cret%40word"  # what an URL must write for the password s3cret@word
LOANS = [
    (n, 1000 + 7 * n if n % 9 else None, ("car", "home")[n % 2], f"2025-03-{1 + n % 28:02d}", n % 3 == 0, n % 5)
    for n in range(1, ROWS + 1)
]
TABLE = (
    "CREATE TABLE loans (id integer PRIMARY KEY, amount {number}, purpose text, day date, failed boolean, customer int)"
)
CONFIG = """
version: 1
project: bank
task: {{name: tabular, target: failed, fields: {{amount: number, purpose: category, day: date}}}}
prepare:
  sources: [{{path: "{path}", table: loans}}]
  steps: [dedup: {{near: null}}, split: {{valid: 0.2, test: 0.2}}]
"""


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """An SQLite file with loans (their rows written in no order), customers and nothing else."""
    with sqlite3.connect(tmp_path / "bank.db") as connection:
        connection.execute(TABLE.format(number="real"))
        connection.executemany("INSERT INTO loans VALUES (?, ?, ?, ?, ?, ?)", LOANS[::-1])
        connection.execute("CREATE TABLE customers (customer integer, age integer)")
        connection.executemany("INSERT INTO customers VALUES (?, ?)", [(n, 20 + n) for n in range(4)])
    connection.close()
    return tmp_path


def change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "bank.db") as connection:
        connection.execute(statement)
    connection.close()


def source(**told: Any) -> SourceSection:
    return SourceSection.model_validate({"path": "sqlite:///bank.db", **told})


def loans(sources: list[SourceSection], root: Path, **fields: str) -> Examples:
    task = find("tabular")
    fields = fields or {"amount": "number", "purpose": "category", "day": "date"}
    section = task.section.model_validate({"name": "tabular", "target": "failed", "fields": fields})
    return load_examples(sources, root, task, section)


def test_a_table_comes_in_the_order_of_its_key_and_its_rows_say_where_they_stand(bank: Path) -> None:
    reading = read(source(table="loans"), bank)
    assert reading.columns == ["id", "amount", "purpose", "day", "failed", "customer"]
    rows = list(reading)
    assert [row["id"] for row, _ in rows] == list(range(1, ROWS + 1))
    ninth = {"id": 9, "amount": None, "purpose": "home", "day": "2025-03-10", "failed": 1, "customer": 4}
    assert rows[8] == (ninth, "loans:9")
    found = loans([source(table="loans")], bank)
    assert (len(found.rows), found.bad, found.notes[0].name) == (ROWS, [], "loans")
    assert found.rows.values("label")[:3] == ["0", "0", "1"]
    assert found.rows.values("amount")[7:9] == [1056.0, None]


def test_a_query_is_read_as_it_stands(bank: Path) -> None:
    """Colons, per cent signs and comments are the query's own."""
    query = "-- the old ones: 100 %\nSELECT id, purpose || ' at 12:30' AS told FROM loans"
    query += " WHERE purpose LIKE 'c%' AND id > 110 ORDER BY id"
    assert [(row["told"], origin) for row, origin in read(source(query=query), bank)] == [
        ("car at 12:30", f"query:{n}") for n in range(1, 6)
    ]


def test_rows_are_streamed(bank: Path) -> None:
    """A query without an end; and what is not read to its end is closed."""
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"
    rows = read(source(query=endless), bank).rows
    assert [row["n"] for row, _ in islice(rows, 3)] == [1, 2, 3]
    rows.close()  # type: ignore[attr-defined]


def test_nothing_is_written(bank: Path) -> None:
    before = (bank / "bank.db").read_bytes()
    with pytest.raises(DataError, match="attempt to write a readonly database"):
        list(read(source(query="WITH gone AS (SELECT 1) DELETE FROM loans"), bank))
    assert (bank / "bank.db").read_bytes() == before
    with pytest.raises(DataError):
        read(SourceSection(path="sqlite:///none.db", table="loans"), bank)
    assert not (bank / "none.db").exists()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"table": "loan"}, "did you mean `loans`"),
        ({}, "add `table:`; there are customers, loans"),
        ({"query": "SELECT amuont FROM loans"}, "no such column: amuont"),
        ({"path": "sqlite:///notes.txt", "table": "x"}, "not a database"),
        ({"path": "sqlite://", "table": "x"}, "name its file"),
        ({"path": "postgres://u@h/d"}, "write postgresql+psycopg://"),
        ({"path": "nosuch+driver://u@h/d"}, "knows no database `nosuch+driver`"),
    ],
    ids=str,
)
def test_mistakes_are_told(bank: Path, told: dict[str, str], words: str) -> None:
    (bank / "notes.txt").write_text("no database at all, but long enough to have a header" * 10)
    with pytest.raises(DataError) as error:
        list(read(source(**told), bank))
    assert words in " ".join(error.value.mistakes[0].lines())


@pytest.mark.parametrize(
    "told",
    [
        {"table": "a", "query": "SELECT 1"}, {"path": "loans.csv", "table": "loans"},
        {"query": "DROP TABLE loans"}, {"query": "/* SELECT */ update loans set id = 1"},
    ],
)  # fmt: skip
def test_configs_that_make_no_sense_are_refused(told: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        source(**told)


def test_the_only_table_needs_no_name_and_columns_may_not_stand_twice(bank: Path) -> None:
    change(bank, "DROP TABLE customers")
    assert read(source(), bank).name == "loans"
    twice = read(source(query="SELECT a.id, b.id FROM loans a JOIN loans b ON a.id = b.id"), bank)
    with pytest.raises(DataError, match="more than once"):
        twice.require(["id"])


def test_the_state_of_a_table_is_its_rows_and_nothing_else(bank: Path) -> None:
    before = state_of(source(table="loans"), bank)
    assert before == state_of(source(query="SELECT * FROM loans ORDER BY purpose, id DESC"), bank)
    change(bank, "UPDATE customers SET age = 99")
    assert state_of(source(table="loans"), bank) == before
    change(bank, "UPDATE loans SET amount = amount + 1 WHERE id = 60")
    changed = state_of(source(table="loans"), bank)
    assert changed != before
    change(bank, "UPDATE loans SET amount = amount - 1 WHERE id = 60")
    assert state_of(source(table="loans"), bank) == before
    change(bank, "INSERT INTO loans SELECT id + 1000, amount, purpose, day, failed, customer FROM loans WHERE id = 1")
    assert state_of(source(table="loans"), bank) not in (before, changed)
    assert states_of(["data.csv", source(table="customers")], bank) == [state_of(source(table="customers"), bank)]
    assert source_path(source(table="loans"), bank) is None


PASSWORDS = [
    "postgresql+psycopg://me:hunter2@127.0.0.1:1/bank",
    "postgresql+psycopg://me:hunter2@127.0.0.1:notaport/bank",
    "postgresql+psycopg://me:hunter2@oops@127.0.0.1:1/bank",
    "postgresql+psycopg://me:hunter2@[::1/bank",
    "postgresql+psycopg://127.0.0.1:1/bank?user=me&password=hunter2",
    "postgresql+nodriver://me:hunter2@127.0.0.1/bank",
    "mysql+pymysql://me:hunter2@127.0.0.1:1/bank",
]


@pytest.mark.parametrize("url", PASSWORDS)
def test_no_error_tells_a_password(url: str) -> None:
    wrong = SourceSection(path=url, table="loans")
    assert "hunter2" not in shown(wrong)
    with pytest.raises((DataError, MachineError)) as error:
        read(wrong, Path())
    told: list[str] = []
    seen: BaseException | None = error.value
    while seen is not None:  # as a traceback in log.txt would tell it
        told += [str(seen), *(line for m in getattr(seen, "mistakes", ()) for line in m.lines())]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert "hunter2" not in "\n".join(told)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A PostgreSQL of this test on the loopback."""

    port: int

    def url(self, password: str = SECRET) -> str:
        return f"postgresql+psycopg://postgres:{password}@127.0.0.1:{self.port}/postgres"


def binaries() -> Path:
    """The folder of initdb and postgres; skips with how to have them."""
    beside = shutil.which("initdb")
    found = [Path(beside).resolve().parent] if beside else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    place = next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)
    if place is None:
        pytest.skip("no PostgreSQL server here; to run this test: apt-get install postgresql")
    if os.geteuid() == 0 and not (shutil.which("setpriv") and _postgres_user()):
        pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`: run the tests as a user")
    return place


def _postgres_user() -> bool:
    return subprocess.run(["id", "postgres"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """A real server, gone afterwards."""
    pytest.importorskip("psycopg", reason="no driver; to run this test: pip install 'llmops-loop[postgresql]'")
    programs = binaries()
    root = os.geteuid() == 0
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
    folder = Path(tempfile.mkdtemp(prefix="llmops-pg-", dir="/tmp"))  # pytest's own folders are closed to others
    (folder / "password").write_text("s3cret@word")
    if root:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    told = ["-D", str(folder / "data"), "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(folder / "password")]
    home = {**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [*as_user, str(programs / "initdb"), *told, "--no-sync"], check=True, capture_output=True, cwd=folder, env=home
    )
    place = ["-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*as_user, str(programs / "postgres"), *place], cwd=folder, env=home, stdout=log, stderr=log
    )
    try:
        server = Server(port)
        fill(server)
        yield server
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(folder)


def fill(server: Server) -> None:
    """The loans of the SQLite file, as PostgreSQL types them."""
    import psycopg

    end = time.monotonic() + 30
    while True:
        try:
            connection = psycopg.connect(server.url().replace("+psycopg", ""), connect_timeout=5)
            break
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLE.format(number="numeric(12, 2)"))
        cursor.executemany("INSERT INTO loans VALUES (%s, %s, %s, %s, %s, %s)", LOANS[::-1])
        cursor.execute("CREATE SEQUENCE counter")
        cursor.execute("CREATE SCHEMA crm")
        cursor.execute("CREATE VIEW crm.people AS SELECT DISTINCT customer, 20 + customer AS age FROM loans")


def test_postgresql_gives_the_same_rows_as_sqlite(postgres: Server, bank: Path) -> None:
    there = SourceSection(path=postgres.url(), table="loans")
    ours, theirs = loans([source(table="loans")], bank), loans([there], bank)
    for name in ("amount", "purpose", "day", "origin"):
        assert ours.rows.values(name) == theirs.rows.values(name)
    assert theirs.rows.values("label")[:3] == ["false", "false", "true"]
    people = [row for row, _ in read(SourceSection(path=postgres.url(), table="crm.people"), bank)]
    assert sorted(row["age"] for row in people) == [20, 21, 22, 23, 24]
    like = SourceSection(path=postgres.url(), query="SELECT id FROM loans WHERE purpose LIKE 'c%' AND '12:30' <> ':x'")
    assert len(list(read(like, bank))) == ROWS / 2
    assert state_of(there, bank) == state_of(SourceSection(path=postgres.url(), query="SELECT * FROM loans"), bank)


def test_postgresql_is_only_read_and_streamed(postgres: Server, bank: Path) -> None:
    for query, words in (
        ("WITH x AS (DELETE FROM loans RETURNING id) SELECT id FROM x", "data-modifying"),
        ("SELECT nextval('counter')", "read-only transaction"),
    ):
        with pytest.raises(DataError, match=words):
            list(read(SourceSection(path=postgres.url(), query=query), bank))
    rows = read(SourceSection(path=postgres.url(), query="SELECT generate_series(1, 2000000000) AS n"), bank).rows
    began = time.monotonic()
    assert [row["n"] for row, _ in islice(rows, 3)] == [1, 2, 3]
    rows.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20
    with pytest.raises(DataError, match="password authentication failed") as error:
        read(SourceSection(path=postgres.url("hunter2"), table="loans"), bank)
    assert "hunter2" not in str(error.value.mistakes)


def test_the_password_stays_in_the_environment(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """prepare reads the real table by a config with ${...}; neither the saved config nor its files hold the value."""
    monkeypatch.setenv("BANK_PASSWORD", SECRET)
    (tmp_path / "bank.yaml").write_text(CONFIG.format(path=postgres.url("${BANK_PASSWORD}")))
    project = open_project(tmp_path / "bank.yaml")
    room = FakeRoom(tmp_path / "room")
    report = PrepareStage().run(Job("bank", project.sections, project.task, {}, room, project.places, 0))
    assert report.numbers["rows_read"] == ROWS
    saved = project.saved()
    assert "${BANK_PASSWORD}" in saved
    for path in room.out.rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes(), path
    assert "s3cret" not in saved + repr(report)


# --- joins -----------------------------------------------------------------------------------------------------------


def test_tables_join_by_a_key(bank: Path) -> None:
    """A file and a database; a row without a match has no values there."""
    change(bank, "DELETE FROM customers WHERE customer = 3")
    (bank / "loans.csv").write_text("loan,customer,failed\n" + "".join(f"{n},{n % 5},{n % 2}\n" for n in range(20)))
    joined = [SourceSection(path="loans.csv"), source(table="customers", join="customer")]
    found = loans(joined, bank, loan="number", age="number")
    ages = found.rows.values("age")
    assert ages[:5] == [20.0, 21.0, 22.0, None, None] and len(ages) == 20
    assert [note.name for note in found.notes] == ["loans.csv", "customers"]


def test_a_key_that_stands_twice_is_told_with_its_lines(bank: Path) -> None:
    change(bank, "INSERT INTO customers VALUES (2, 50)")
    (bank / "loans.csv").write_text("customer,failed\n1,0\n2,1\n")
    with pytest.raises(LlmopsError, match="'2' stands more than once") as error:
        loans([SourceSection(path="loans.csv"), source(table="customers", join="customer")], bank, age="number")
    assert "customers:3 and customers:5" in " ".join(error.value.mistakes[0].lines())
