"""registry: versions appear whole, the pointer moves by rename, the history tells every move; also under kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmops.core.artifact import tree_digest
from llmops.core.errors import DataError
from llmops.registry import history, store


def bundle(folder: Path, name: str) -> Path:
    """What the registry needs of a bundle: a folder with a bundle.json of its own."""
    made = folder / f"bundle-{name}"
    made.mkdir()
    (made / "bundle.json").write_text(json.dumps({"name": name}))
    (made / "model.onnx").write_bytes(name.encode() * 1000)
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def test_empty(registry: Path) -> None:
    assert store.champion(registry) is None
    assert store.versions(registry) == []
    with pytest.raises(DataError, match="no earlier champion"):
        store.rollback(registry)


def test_promotes_with_extras(registry: Path, tmp_path: Path) -> None:
    extras = tmp_path / "extras"
    extras.mkdir()
    (extras / "Dockerfile").write_text("FROM scratch\n")
    one = bundle(tmp_path, "a")
    assert store.promote(registry, one, extras, "run-1") == 1
    number, folder = store.champion(registry) or (0, Path())
    assert number == 1
    assert tree_digest(folder) == tree_digest(one)
    assert (folder.parent / "Dockerfile").read_text() == "FROM scratch\n"
    assert (registry / "champion").read_text() == "1\n"
    [version] = store.versions(registry)
    assert (version.number, version.run, version.champion, version.bundle) == (1, "run-1", True, folder)


def test_rolls_back_step_by_step(registry: Path, tmp_path: Path) -> None:
    for name in "abc":
        store.promote(registry, bundle(tmp_path, name), run=name)
    assert [store.rollback(registry), store.rollback(registry)] == [2, 1]
    with pytest.raises(DataError, match="no earlier champion"):
        store.rollback(registry)
    assert store.promote(registry, bundle(tmp_path, "d"), run="d") == 4
    assert store.rollback(registry) == 1
    assert store.rollback(registry, 3) == 3
    actions = [(line["action"], line["version"], line["run"]) for line in history.read(registry)]
    assert actions[-3:] == [("promote", 4, "d"), ("rollback", 1, "a"), ("rollback", 3, "c")]
    assert all(line["by"] and line["at"] for line in history.read(registry))


def test_an_unknown_version_names_the_known(registry: Path, tmp_path: Path) -> None:
    store.promote(registry, bundle(tmp_path, "a"))
    with pytest.raises(DataError) as caught:
        store.rollback(registry, 7)
    assert "take one of these: 1" in caught.value.mistakes[0].do


def test_the_same_bundle_is_stored_once(registry: Path, tmp_path: Path) -> None:
    one, other = bundle(tmp_path, "a"), bundle(tmp_path, "b")
    assert [store.promote(registry, each) for each in (one, other, one)] == [1, 2, 1]
    assert len(store.versions(registry)) == 2


@pytest.mark.parametrize("pointer", ["", "x", "9"])
def test_a_bad_pointer_says_what_to_do(registry: Path, tmp_path: Path, pointer: str) -> None:
    store.promote(registry, bundle(tmp_path, "a"))
    (registry / "champion").write_text(pointer)
    with pytest.raises(DataError) as caught:
        store.champion(registry)
    assert caught.value.mistakes[0].do
    assert store.rollback(registry, 1) == 1


def test_a_torn_history_is_read_and_continued(registry: Path, tmp_path: Path) -> None:
    store.promote(registry, bundle(tmp_path, "a"))
    path = registry / "history.jsonl"
    path.write_bytes(path.read_bytes() + b'{"at": "2026')
    store.promote(registry, bundle(tmp_path, "b"))
    assert [line["version"] for line in history.read(registry)] == [1, 2]


def test_two_at_once_take_turns(registry: Path, tmp_path: Path) -> None:
    bundles = [bundle(tmp_path, str(place)) for place in range(8)]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda each: store.promote(registry, each), bundles))
    assert sorted(numbers) == list(range(1, 9))
    assert (store.champion(registry) or (0,))[0] == history.read(registry)[-1]["version"]


KILLED = """
import os, signal, sys
from pathlib import Path
from llmops.registry import store
target, calls = int(sys.argv[3]), 0
def tell(event, args):
    global calls
    if event in ("open", "os.rename", "shutil.copytree", "os.mkdir") and "registry" in str(args[:2]):
        calls += 1
        if calls == target:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(tell)
print(store.promote(Path(sys.argv[1]), Path(sys.argv[2]), run="r2"))
"""


def killed_promotions(registry: Path, tmp_path: Path, points: range) -> int:
    """Promote in a process that is killed at its n-th touch of the registry; returns how many were killed."""
    first, second = bundle(tmp_path, "first"), bundle(tmp_path, "second")
    killed = 0
    for point in points:
        home = registry / str(point)
        store.promote(home, first, run="r1")
        command = [sys.executable, "-c", KILLED, str(home), str(second), str(point)]
        done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[1])
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        killed += done.returncode != 0
        number, folder = store.champion(home) or (0, Path())
        assert tree_digest(folder) == tree_digest(first if number == 1 else second)
        assert store.promote(home, second, run="r2") == 2  # the same command again carries on
        assert tree_digest((store.champion(home) or (0, Path()))[1]) == tree_digest(second)
        assert store.rollback(home) == 1
        assert not list((home / "versions").glob(".*"))
        if done.returncode == 0:
            break
    return killed


def test_kill_leaves_the_old_champion_or_the_new_one_whole(registry: Path, tmp_path: Path) -> None:
    assert killed_promotions(registry, tmp_path, range(1, 60, 5)) >= 3


@pytest.mark.prove
def test_kill_at_every_write(registry: Path, tmp_path: Path) -> None:
    assert killed_promotions(registry, tmp_path, range(1, 200)) >= 15
