"""Artifact: a file or folder that one stage gives and another takes, known by its digest."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """`kind` names what it is (dataset, model, bundle ...), `path` is relative to the stage's folder,
    `sha256` covers names and contents, `size` is in bytes, `made_by` is the stage."""

    kind: str
    path: str
    sha256: str
    size: int
    made_by: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def tree_files(root: Path) -> list[Path]:
    """All files at or below `root`, sorted by their path."""
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file())


def tree_digest(root: Path) -> str:
    """sha256 over the names and contents of a file or folder, in hex."""
    if root.is_file():
        return file_digest(root)
    digest = hashlib.sha256()
    for path in tree_files(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def tree_size(root: Path) -> int:
    """Bytes of all files at or below `root`."""
    return sum(path.stat().st_size for path in tree_files(root))


def json_digest(value: Any) -> str:
    """sha256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a rename is only safe after this)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`write_whole` of a JSON value, indented for people."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
