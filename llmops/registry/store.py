"""The registry of one project: numbered versions, the pointer to the champion, an append-only history.

    versions/3/bundle/    a promoted bundle, with its Dockerfile and compose.yaml beside it
    champion              the pointer: "3"
    history.jsonl         every move of the pointer: at, action, version, run, by

A version appears whole or not at all, and only then the pointer moves to it; both by rename. The pointer is
the truth: a kill between its move and the history's line is mended by the next move.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops.core.artifact import file_digest, fsync_folder, tree_files, write_whole
from llmops.core.errors import DataError
from llmops.registry.history import append, previous, read

POINTER = "champion"
BUNDLE = "bundle"


@dataclass(frozen=True)
class Version:
    """A promoted version; `folder` holds bundle/ and the container files."""

    number: int
    folder: Path
    run: str
    at: str
    champion: bool

    @property
    def bundle(self) -> Path:
        return self.folder / BUNDLE


def champion(registry_dir: Path) -> tuple[int, Path] | None:
    """The number and the bundle folder of the version that serves; None before the first promotion.

    Raises DataError when the pointer cannot be read or names a version that is not there.
    """
    pointer = registry_dir / POINTER
    try:
        number = int(pointer.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        do = "write the number of a version into it, such as 1"
        raise DataError(f"the champion pointer cannot be read: {error}", str(pointer), do) from error
    bundle = _folder(registry_dir, number) / BUNDLE
    if not bundle.is_dir():
        do = "go back to a version that is there: llmops rollback CONFIG VERSION"
        raise DataError(f"the champion is version {number}, and that version is gone", str(pointer), do)
    return number, bundle


def promote(registry_dir: Path, bundle: Path, extras: Path | None = None, run: str = "") -> int:
    """Make the bundle folder the champion and return its version number.

    The files of the folder `extras` are put beside bundle/. A bundle that already is a version is not stored
    again; its old number becomes champion, with the new extras. Whatever this process is killed at, the old champion
    or the new one stands, whole.
    """
    with _one_mover(registry_dir):
        number = _same_bundle(registry_dir, bundle)
        if number is None:
            number = _store(registry_dir, bundle, extras)
        elif extras is not None:
            for path in tree_files(extras):
                write_whole(_folder(registry_dir, number) / path.relative_to(extras), path.read_bytes())
        _point(registry_dir, number, "promote", run)
    return number


def rollback(registry_dir: Path, version: int | None = None) -> int:
    """Make `version` (default: the champion before this one) the champion again; returns its number.

    Raises DataError when there is no such version or nothing to go back to.
    """
    with _one_mover(registry_dir):
        now = champion_number(registry_dir)
        kept = {folder_number for folder_number, _ in _folders(registry_dir)}
        target = previous(read(registry_dir), now, kept) if version is None else version
        if target is None:
            raise DataError(
                "there is no earlier champion to go back to", str(registry_dir), "llmops run CONFIG makes a new one"
            )
        if target not in kept:
            known = ", ".join(str(number) for number in sorted(kept)) or "none"
            raise DataError(f"there is no version {target}", str(registry_dir), f"take one of these: {known}")
        run = next((line["run"] for line in reversed(read(registry_dir)) if line["version"] == target), "")
        _point(registry_dir, target, "rollback", run)
    return target


def versions(registry_dir: Path) -> list[Version]:
    """Every stored version, oldest first; `run` and `at` are those of its first promotion."""
    first: dict[int, dict[str, Any]] = {}
    for line in read(registry_dir):
        first.setdefault(line["version"], line)
    now = champion_number(registry_dir)
    return [
        Version(
            number, folder, first.get(number, {}).get("run", ""), first.get(number, {}).get("at", ""), number == now
        )
        for number, folder in _folders(registry_dir)
    ]


def champion_number(registry_dir: Path) -> int | None:
    """What the pointer says, whether or not that version can be used; None without a readable pointer."""
    try:
        return int((registry_dir / POINTER).read_text())
    except (OSError, ValueError):
        return None


def _point(registry_dir: Path, number: int, action: str, run: str) -> None:
    lines = read(registry_dir)
    now = champion_number(registry_dir)
    if now is not None and (not lines or lines[-1]["version"] != now):
        append(registry_dir, _line("mend", now, ""))
    write_whole(registry_dir / POINTER, f"{number}\n")
    append(registry_dir, _line(action, number, run))


def _line(action: str, number: int, run: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": at, "action": action, "version": number, "run": run, "by": _person()}


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return f"uid {os.getuid()}"


def _store(registry_dir: Path, bundle: Path, extras: Path | None) -> int:
    used = [number for number, _ in _folders(registry_dir)] + [int(line["version"]) for line in read(registry_dir)]
    number = max(used, default=0) + 1
    final = _folder(registry_dir, number)
    partial = final.with_name(f".{number}.tmp")
    shutil.rmtree(partial, ignore_errors=True)  # left by a kill; we hold the lock
    shutil.copytree(bundle, partial / BUNDLE)
    if extras is not None:
        shutil.copytree(extras, partial, dirs_exist_ok=True)
    for path in tree_files(partial):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    partial.rename(final)
    fsync_folder(final.parent)
    return number


def _same_bundle(registry_dir: Path, bundle: Path) -> int | None:
    """The version made of this very bundle; bundle.json holds every file's digest, so it tells."""
    wanted = file_digest(bundle / "bundle.json")
    for number, folder in _folders(registry_dir):
        manifest = folder / BUNDLE / "bundle.json"
        if manifest.is_file() and file_digest(manifest) == wanted:
            return number
    return None


def _folder(registry_dir: Path, number: int) -> Path:
    return registry_dir / "versions" / str(number)


def _folders(registry_dir: Path) -> list[tuple[int, Path]]:
    home = registry_dir / "versions"
    found = [path for path in home.iterdir() if path.name.isdecimal()] if home.is_dir() else []
    return sorted((int(path.name), path) for path in found)


@contextmanager
def _one_mover(registry_dir: Path) -> Iterator[None]:
    """Moves take turns; the kernel frees the lock of a killed one."""
    registry_dir.mkdir(parents=True, exist_ok=True)
    with (registry_dir / ".lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
