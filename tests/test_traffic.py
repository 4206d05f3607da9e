"""The traffic log on real files: nothing lost, nothing unredacted, several writers, real kills, damaged files."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llmops.core.errors import DataError, UsageError
from llmops.records.traffic import TrafficLog, new_id
from llmops.records.trafficfile import CARRIED_OVER
from llmops.records.trafficreader import Logged, TrafficReader

ROOT = Path(__file__).parent.parent
DAY_S = 86_400


def put(log: TrafficLog, text: str = "where is my parcel", **more: Any) -> str:
    fields = {
        "version": 1, "request": {"text": text}, "response": {"label": "parcel"}, "label": "parcel",
        "probability": 0.9, "abstained": False, "latency_ms": 2.5, **more,
    }  # fmt: skip
    key = new_id()
    assert log.record(key, **fields)
    return key


def column(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute(sql)]
    finally:
        connection.close()


def texts(rows: list[Logged]) -> list[str]:
    return [row.request["text"] for row in rows if row.request]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic" / "demo" / "traffic.db"


def test_what_is_recorded_is_read_back(path: Path) -> None:
    with TrafficLog(path) as log:
        key = put(log, abstained=True, at=1000.0, version=3, probability=0.25)
    [row] = TrafficReader(path).requests()
    assert (row.id, row.at, row.version, row.label) == (key, 1000.0, 3, "parcel")
    assert (row.request, row.response) == ({"text": "where is my parcel"}, {"label": "parcel"})
    assert (row.probability, row.abstained, row.latency_ms, row.source) == (0.25, True, 2.5, "http")
    assert [json.loads(plain) for plain in column(path, "SELECT request FROM requests")] == [row.request]


def test_rows_are_committed_within_fifty_milliseconds_or_so(path: Path) -> None:
    with TrafficLog(path) as log:
        put(log)
        time.sleep(0.25)  # five times the promise: the machine is shared
        assert column(path, "SELECT COUNT(*) FROM requests") == [1]


def test_feedback_finds_ids_that_are_still_queued(path: Path) -> None:
    with TrafficLog(path) as log:
        for _ in range(50):
            key = put(log)
            assert log.feedback(key, rating=-1, correction="refund", by="anna")
        log.flush()
        assert log.waiting() == 0
    assert len(TrafficReader(path).judged()) == 50


def test_the_latest_word_wins_each_for_itself(path: Path) -> None:
    with TrafficLog(path) as log:
        key = put(log)
        log.feedback(key, rating=1, at=1.0)
        log.feedback(key, correction="card", at=2.0)
        log.feedback(key, correction="refund", rating=-1, at=3.0)
    [judged] = TrafficReader(path).judged()
    assert (judged.rating, judged.correction, judged.said_at) == (-1, "refund", 3.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rating": 1, "request_id": "nobody"}, "no request has the id 'nobody'"),
        ({"rating": 5}, "a rating is 1 or -1, not 5"),
        ({}, "feedback needs a rating or a correction"),
        ({"correction": ""}, "feedback needs a rating or a correction"),
    ],
)
def test_wrong_feedback_is_told(path: Path, fields: dict[str, Any], said: str) -> None:
    with TrafficLog(path) as log, pytest.raises(UsageError, match=said):
        log.feedback(**{"request_id": put(log), **fields})


def test_personal_data_never_reaches_the_disk(path: Path) -> None:
    text = "I am anna@example.org, card 4111 1111 1111 1111, call +49 30 1234567"
    with TrafficLog(path) as log:
        key = put(log, request={"text": text, "many": [text, {"who": "anna@example.org"}], "age": 4111111})
        log.feedback(key, rating=1, by="anna@example.org")
    raw = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"anna@example" not in raw
    assert b"4111 1111" not in raw
    assert b"1234567" not in raw
    [row] = TrafficReader(path).requests()
    clean = "I am <email>, card <card>, call <phone>"
    assert row.request == {"text": clean, "many": [clean, {"who": "<email>"}], "age": 4111111}


def test_redaction_and_text_can_be_switched_off(tmp_path: Path) -> None:
    with TrafficLog(tmp_path / "plain.db", redact=False) as log:
        put(log, "write to anna@example.org")
    with TrafficLog(tmp_path / "mute.db", keep_text=False) as log:
        put(log, "write to anna@example.org")
    [plain] = TrafficReader(tmp_path / "plain.db").requests()
    [mute] = TrafficReader(tmp_path / "mute.db").requests()
    assert plain.request == {"text": "write to anna@example.org"}
    assert (mute.request, mute.label) == (None, "parcel")
    assert column(tmp_path / "mute.db", "SELECT request FROM requests") == [None]


def test_prose_is_redacted_and_labels_are_not(tmp_path: Path) -> None:
    words = "write to anna@example.org"
    with TrafficLog(tmp_path / "log.db") as log:
        label = put(log, response={"best": words})
        log.feedback(label, correction=words)
        chat = put(log, request={"messages": [{"role": "user", "content": words}]}, response={"answer": words, "n": 3},
                   label=None, probability=None, prose=True)  # fmt: skip
        log.feedback(chat, rating=-1, correction=words, prose=True)
    with TrafficReader(tmp_path / "log.db") as reader:
        labelled, chatted = reader.judged()
    assert (labelled.response, labelled.correction, labelled.label) == ({"best": words}, words, "parcel")
    assert chatted.request == {"messages": [{"role": "user", "content": "write to <email>"}]}
    assert (chatted.response, chatted.label) == ({"answer": "write to <email>", "n": 3}, None)
    assert chatted.correction == "write to <email>"


def test_a_log_without_texts_keeps_no_prose(tmp_path: Path) -> None:
    with TrafficLog(tmp_path / "log.db", keep_text=False) as log:
        chat = put(log, response={"answer": "secret", "n": 3}, label=None, prose=True)
        log.feedback(chat, rating=-1, correction="secret", prose=True)
    with TrafficReader(tmp_path / "log.db") as reader:
        [said] = reader.judged()
    assert (said.request, said.response, said.correction, said.rating) == (None, {"n": 3}, None, -1)
    assert b"secret" not in (tmp_path / "log.db").read_bytes()


def test_texts_that_utf8_cannot_hold_do_not_stop_the_log(path: Path) -> None:
    with TrafficLog(path) as log:
        put(log, "half a pair \ud83d and a NUL \x00")
        put(log)
    held = texts(TrafficReader(path).requests())
    assert held == ["half a pair ? and a NUL \x00", "where is my parcel"]


def test_an_id_that_is_there_is_left_as_it_is(path: Path) -> None:
    with TrafficLog(path) as log:
        key = put(log, "first")
        log.record(
            key, version=1, request={"text": "second"}, response=None, label=None, probability=None,
            abstained=False, latency_ms=None,
        )  # fmt: skip
    assert texts(TrafficReader(path).requests()) == ["first"]


def test_old_requests_are_forgotten_with_what_was_said(path: Path) -> None:
    now = time.time()
    with TrafficLog(path) as log:
        for index in range(2500):
            key = put(log, f"old {index}", at=now - 31 * DAY_S)
            if index % 100 == 0:
                log.feedback(key, rating=1)
        kept = put(log, "young", at=now - 29 * DAY_S)
        log.feedback(kept, rating=-1)
    TrafficLog(path, keep_days=30).close()
    with TrafficLog(path, keep_days=30) as log:
        deadline = time.monotonic() + 10
        while column(path, "SELECT COUNT(*) FROM requests") != [1] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert log.knows(kept)
    assert column(path, "SELECT request ->> 'text' FROM requests") == ["young"]
    assert column(path, "SELECT rating FROM feedback") == [-1]


def test_reader_filters_by_version_and_time(path: Path) -> None:
    with TrafficLog(path) as log:
        for at, version in ((10.0, 1), (20.0, 2), (30.0, 2), (40.0, 2)):
            put(log, f"at {at:g}", at=at, version=version)
        put(log, "imported", source="import", at=25.0, version=2)
    with TrafficReader(path) as reader:
        assert texts(reader.requests(version=2, since=20.0)) == ["at 20", "at 30", "at 40"]
        assert texts(reader.requests(before=30.0)) == ["at 10", "at 20"]
        assert texts(reader.requests(newest=2)) == ["at 30", "at 40"]
        [volume] = reader.volumes(version=2)
        assert (volume.day, volume.requests, volume.abstained) == ("1970-01-01", 3, 0)


def test_state_changes_with_every_row(path: Path) -> None:
    seen = []
    with TrafficLog(path) as log:
        key = put(log)
        for say in (lambda: None, lambda: put(log), lambda: log.feedback(key, rating=1)):
            say()
            log.flush()
            with TrafficReader(path) as reader:
                seen.append(tuple(reader.state().values()))
    assert len(set(seen)) == 3


def test_recording_is_fast_and_does_not_wait(path: Path) -> None:
    with TrafficLog(path) as log:
        began = time.perf_counter()
        for index in range(5000):
            put(log, f"where is my parcel {index}")
        queued_s = time.perf_counter() - began
        log.flush()
        assert time.perf_counter() - began < 5.0  # 1,000 rows a second; measured: over 6,000
        assert queued_s < 1.5
        assert log.dropped == 0


def test_a_full_queue_refuses_and_counts(path: Path) -> None:
    with TrafficLog(path, queue=5) as log:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")  # another process holds the file for long
        for index in range(5):
            put(log, str(index))
        refused = log.record(
            new_id(), version=1, request=None, response=None, label="x", probability=1.0,
            abstained=False, latency_ms=1.0,
        )  # fmt: skip
        assert not refused
        assert log.dropped == 1
        with pytest.raises(DataError, match="5 rows of traffic could not be written"):
            log.flush(timeout_s=0.2)
        blocker.execute("ROLLBACK")
        blocker.close()
    assert texts(TrafficReader(path).requests()) == list("01234")


def test_threads_share_a_log(path: Path) -> None:
    with TrafficLog(path) as log:

        def work(name: int) -> None:
            for _ in range(200):
                log.feedback(put(log, f"thread {name}"), rating=1)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert column(path, "SELECT COUNT(*) FROM requests") == [1600]
    assert column(path, "SELECT COUNT(*) FROM feedback") == [1600]


WRITER = """
import sys, time
from pathlib import Path
from llmops.records.traffic import TrafficLog, new_id
log = TrafficLog(Path(sys.argv[1]))
count, pause = int(sys.argv[2]), float(sys.argv[3])
for index in range(count):
    key = new_id()
    log.record(key, version=1, request={"text": f"row {index}"}, response=None, label="a", probability=1.0,
               abstained=False, latency_ms=1.0)
    print(key, time.time(), flush=True)
    time.sleep(pause)
log.close()
"""


def writer(path: Path, count: int, pause: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(path), str(count), str(pause)]
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE)


def test_several_processes_write_at_once(path: Path) -> None:
    writers = [writer(path, 300, 0.0) for _ in range(3)]  # all three make the file at the same time
    told = {line.split()[0] for process in writers for line in process.communicate(timeout=60)[0].splitlines()}
    assert [process.returncode for process in writers] == [0, 0, 0]
    assert {row.id for row in TrafficReader(path).requests()} == told
    assert len(told) == 900


def killed_writer(path: Path, after_rows: int) -> tuple[list[tuple[str, float]], float]:
    """Rows that a writer said it recorded, and when it was killed with -9."""
    process = writer(path, 100_000, 0.001)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after_rows)]
    at = time.time()
    os.kill(process.pid, signal.SIGKILL)
    lines += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    return [(line.split()[0], float(line.split()[1])) for line in lines if len(line.split()) == 2], at


@pytest.mark.parametrize("after_rows", [40, 173, 400])
def test_kill_9_loses_at_most_the_last_moment(path: Path, after_rows: int) -> None:
    told, killed_at = killed_writer(path, after_rows)
    with TrafficLog(path) as log:
        put(log, "life goes on")
    held = {row.id for row in TrafficReader(path).requests()}
    # 50 ms is the promise; three times that, for a machine that is shared with other tests.
    assert [key for key, at in told if at < killed_at - 0.15 and key not in held] == []
    assert column(path, "PRAGMA integrity_check") == ["ok"]


def test_a_newer_format_is_refused(path: Path) -> None:
    TrafficLog(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    for opener in (TrafficLog, TrafficReader):
        with pytest.raises(DataError, match="format 3; this llmops reads up to 2") as refused:
            opener(path)
        assert "upgrade" in refused.value.mistakes[0].do


def test_a_foreign_database_is_refused(path: Path) -> None:
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs(name TEXT)")
    connection.close()
    for opener in (TrafficLog, TrafficReader):
        with pytest.raises(DataError, match="not a traffic log: it has the tables songs"):
            opener(path)


def damage_head(path: Path) -> None:
    path.write_bytes(b"what a pity " * 1000)


def damage_tail(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_middle(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[4096 * 2 : 4096 * 12] = os.urandom(4096 * 10)
    path.write_bytes(bytes(whole))


@pytest.mark.parametrize("damage", [damage_head, damage_tail, damage_middle])
def test_a_damaged_file_is_a_clear_error(path: Path, damage: Any) -> None:
    with TrafficLog(path) as log:
        for index in range(500):
            log.feedback(put(log, f"row {index}"), rating=1)
    damage(path)
    with pytest.raises(DataError, match="damaged") as told, TrafficReader(path) as reader:  # noqa: PT012
        reader.state()
        reader.requests()
        reader.judged()
    assert "mv " in told.value.mistakes[0].do


def test_a_missing_log_is_told(path: Path) -> None:
    with pytest.raises(DataError, match="there is no traffic log"):
        TrafficReader(path)
    assert not path.exists()


BEFORE = (
    """CREATE TABLE requests(
        id TEXT PRIMARY KEY, at REAL NOT NULL, version INTEGER, text TEXT, request JSON, response JSON,
        label TEXT, probability REAL, abstained INTEGER NOT NULL DEFAULT 0, latency_ms REAL,
        source TEXT NOT NULL DEFAULT 'http')""",
    "CREATE INDEX requests_at ON requests(at)",
    "CREATE INDEX requests_version ON requests(version, at)",
    "CREATE TABLE feedback(request_id TEXT NOT NULL, at REAL NOT NULL, rating INTEGER, correction TEXT, by TEXT)",
    "CREATE INDEX feedback_request ON feedback(request_id)",
    "PRAGMA user_version = 1",
)
LATELY = time.time() - 1000
OLD_ROWS = [
    ("a", LATELY, 1, "is it here?", '{"text": "is it here?"}', '{"best": "parcel"}', "parcel", 0.9, 0, 2.0, "http"),
    ("b", LATELY + 1, None, 'odd "one"\n\x00\u2028 \U0001f600', None, None, None, None, 0, None, "http"),
    ("c", LATELY + 2, 1, "last words", '{"messages": [{"role": "user", "content": "last words"}]}', "{}", None, None, 0,
     1.0, "http"),
    ("d", LATELY + 3, 1, None, None, '{"best": "card"}', "card", 0.8, 1, 2.0, "http"),
]  # fmt: skip
CARRIED = [
    {"text": "is it here?"}, {"text": 'odd "one"\n\x00\u2028 \U0001f600'},
    {"messages": [{"role": "user", "content": "last words"}]}, None,
]  # fmt: skip


@pytest.fixture
def before(path: Path) -> Path:
    """A log as the llmops of before wrote it."""
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in BEFORE:
        connection.execute(statement)
    connection.executemany("INSERT INTO requests VALUES (?,?,?,?,?,?,?,?,?,?,?)", OLD_ROWS)
    connection.execute("INSERT INTO feedback VALUES ('b', 9.0, NULL, 'refund', NULL)")
    connection.commit()
    connection.close()
    return path


def test_a_log_of_before_is_read_as_it_lies(before: Path) -> None:
    with TrafficReader(before) as reader:
        assert [row.request for row in reader.requests()] == CARRIED
        assert [(row.id, row.request, row.correction) for row in reader.judged()] == [("b", CARRIED[1], "refund")]
        assert column(before, "PRAGMA user_version") == [1]
        with TrafficLog(before):  # carried over while it is read
            assert [row.request for row in reader.requests()] == CARRIED


def test_a_log_of_before_is_carried_over_once(before: Path) -> None:
    for turn in (1, 2):
        with TrafficLog(before) as log:
            put(log, f"new {turn}")
    assert column(before, "PRAGMA user_version") == [2]
    assert "text" not in column(before, "SELECT name FROM pragma_table_info('requests')")
    with TrafficReader(before) as reader:
        rows = reader.requests()
        assert [row.request for row in rows] == [*CARRIED, {"text": "new 1"}, {"text": "new 2"}]
        assert [(row.id, row.version, row.label, row.probability, row.abstained) for row in rows[:4]] == [
            ("a", 1, "parcel", 0.9, False), ("b", None, None, None, False), ("c", 1, None, None, False),
            ("d", 1, "card", 0.8, True),
        ]  # fmt: skip
        assert [row.correction for row in reader.judged()] == ["refund"]
    assert column(before, "PRAGMA integrity_check") == ["ok"]


def test_several_processes_carry_a_log_over_at_once(before: Path) -> None:
    writers = [writer(before, 50, 0.0) for _ in range(3)]
    told = {line.split()[0] for process in writers for line in process.communicate(timeout=60)[0].splitlines()}
    assert [process.returncode for process in writers] == [0, 0, 0]
    rows = TrafficReader(before).requests()
    assert {row.id for row in rows} == told | {"a", "b", "c", "d"}
    assert [row.request for row in rows[:4]] == CARRIED


def test_a_carrying_over_that_is_killed_leaves_the_log_of_before(before: Path) -> None:
    connection = sqlite3.connect(before, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    for statement in CARRIED_OVER[:2]:
        connection.execute(statement)
    connection.close()  # as the kernel does for a killed process: nothing was committed
    with TrafficReader(before) as reader:
        assert [row.request for row in reader.requests()] == CARRIED
    TrafficLog(before).close()
    assert [row.request for row in TrafficReader(before).requests()] == CARRIED


def test_rows_are_found_by_an_id_of_their_own(path: Path) -> None:
    with TrafficLog(path) as log:
        keys = [put(log, request={'no. "1"': value}, at=float(at)) for at, value in enumerate(["x", 7, "x", None])]
        put(log, request=None)
        put(log, request={"other": "x"})
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO requests(id, at, request) VALUES ('foreign', 9, 'no JSON')")
    connection.commit()
    connection.close()
    with TrafficReader(path) as reader:
        assert reader.own_ids('no. "1"') == list(zip(keys, ["x", 7, "x", None], strict=True))
        assert reader.own_ids("nothing") == []
